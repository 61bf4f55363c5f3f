//! The catalog as a checkpoint holds it: strings and shapes numbered without holes.

use super::super::paged::{put_varint, take_varint};
use super::super::symbols::Symbol;
use super::{Catalog, NO_RECORD};

/// Which number each string and each shape has in a checkpoint, of those there were when it was begun.
pub(crate) struct Numbers {
    symbols: Vec<Option<u32>>,
    shapes: Vec<Option<u32>>,
    pub(crate) symbol_count: u32,
    pub(crate) shape_count: u32,
}

impl Numbers {
    fn symbol(&self, symbol: Symbol) -> Option<u32> {
        self.symbols.get(symbol as usize).copied().flatten()
    }

    fn shape(&self, shape: u64) -> Option<u32> {
        self.shapes.get(usize::try_from(shape).ok()?).copied().flatten()
    }
}

/// Numbers those that are there from 0 on; answers also how many they are.
fn number(are_there: impl Iterator<Item = bool>) -> (Vec<Option<u32>>, u32) {
    let mut next = 0;
    let numbers = are_there.map(|is_there| {
        let number = is_there.then_some(next);
        next += u32::from(is_there);
        number
    });
    (numbers.collect(), next)
}

impl Catalog {
    /// Numbers what a checkpoint is to hold. Until that is written nothing may be removed; what is added is left out, and so are
    /// the records that need it.
    pub(crate) fn numbers(&self) -> Numbers {
        let (symbols, symbol_count) =
            number((0..self.symbols.numbers()).map(|symbol| self.symbols.contains(symbol)));
        let (shapes, shape_count) = number(self.shapes.iter().map(|shape| !shape.is_free));
        Numbers { symbols, shapes, symbol_count, shape_count }
    }

    /// Writes all strings, as [`Catalog::decode_symbols`] reads them.
    pub(crate) fn encode_symbols(&self, numbers: &Numbers, out: &mut Vec<u8>) {
        for symbol in (0..self.symbols.numbers()).filter(|symbol| numbers.symbol(*symbol).is_some()) {
            let text = self.symbols.get(symbol);
            put_varint(out, text.len() as u64);
            out.extend_from_slice(text);
        }
    }

    /// Writes all shapes, as [`Catalog::decode_shapes`] reads them.
    pub(crate) fn encode_shapes(&self, numbers: &Numbers, out: &mut Vec<u8>) {
        let numbered = self.shapes.iter().zip(&numbers.shapes).filter(|shape| shape.1.is_some());
        for (shape, _) in numbered {
            put_varint(out, shape.names.len() as u64);
            for name in &shape.names {
                put_varint(out, u64::from(numbers.symbol(*name).unwrap_or_default()));
            }
        }
    }

    /// Writes the records of the first `series` series, as [`Catalog::decode_records`] reads them.
    pub(crate) fn encode_records(&self, series: u32, numbers: &Numbers, out: &mut Vec<u8>) {
        for id in 0..series {
            let start = out.len();
            if self.encode_record(id, numbers, out).is_none() {
                out.truncate(start);
                out.push(0);
            }
        }
    }

    fn encode_record(&self, id: u32, numbers: &Numbers, out: &mut Vec<u8>) -> Option<()> {
        let address = self.addresses.get(id as usize).copied().filter(|a| *a != NO_RECORD)?;
        let shape = take_varint(&mut self.records.tail(address))?;
        put_varint(out, u64::from(numbers.shape(shape)?) + 1);
        for (_, value) in self.pairs(id) {
            put_varint(out, u64::from(numbers.symbol(value)?));
        }
        Some(())
    }

    /// Reads `count` strings into an empty catalog.
    pub(crate) fn decode_symbols(&mut self, mut bytes: &[u8], count: u32) -> Option<()> {
        for symbol in 0..count {
            let len = usize::try_from(take_varint(&mut bytes)?).ok()?;
            let (text, rest) = bytes.split_at_checked(len)?;
            bytes = rest;
            std::str::from_utf8(text).ok()?;
            if self.symbols.intern(text)? != symbol {
                return None;
            }
        }
        Some(())
    }

    /// Reads `count` shapes.
    pub(crate) fn decode_shapes(&mut self, mut bytes: &[u8], count: u32) -> Option<()> {
        for shape in 0..count {
            let len = take_varint(&mut bytes)?;
            let mut names = Vec::new();
            for _ in 0..len {
                let name = u32::try_from(take_varint(&mut bytes)?).ok()?;
                names.push(name);
                if !self.symbols.contains(name) {
                    return None;
                }
            }
            if self.shape_of(names)? != shape {
                return None;
            }
        }
        Some(())
    }

    /// Reads `count` series and indexes them.
    pub(crate) fn decode_records(&mut self, mut bytes: &[u8], count: u32) -> Option<()> {
        let mut values = Vec::with_capacity(64);
        for id in 0..count {
            let Some(shape) = take_varint(&mut bytes)?.checked_sub(1) else {
                self.push_placeholder();
                continue;
            };
            let shape = u32::try_from(shape).ok()?;
            let names = self.shapes.get(shape as usize)?.names.len();
            values.clear();
            for _ in 0..names {
                let value = u32::try_from(take_varint(&mut bytes)?).ok()?;
                if !self.symbols.contains(value) {
                    return None;
                }
                values.push(value);
            }
            self.put_record(id, shape, &values)?;
        }
        Some(())
    }
}
