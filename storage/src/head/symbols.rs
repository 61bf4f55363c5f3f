//! Every distinct label name and value once: an arena of strings, numbered in order of first arrival.

use super::paged::{Arena, Paged, put_varint, take_varint};
use hashbrown::HashTable;

/// The number of a string.
pub(crate) type Symbol = u32;

/// Strings by number and numbers by string.
#[derive(Default)]
pub(crate) struct Symbols {
    arena: Arena,
    addresses: Paged<u32>,
    /// (half of the string's hash, its number): growing the table then needs no string.
    table: HashTable<(u32, Symbol)>,
}

/// The strings only need to be spread, not kept apart, so an unkeyed hash of 32 bits is enough; flooding one bucket
/// costs a sender as many series as it gains comparisons, and those are limited.
fn hash_of(text: &[u8]) -> u32 {
    (xxhash_rust::xxh3::xxh3_64(text) >> 32) as u32
}

fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl Symbols {
    pub(crate) fn len(&self) -> usize {
        self.addresses.len()
    }

    /// The bytes of `symbol`; empty for a number never given.
    #[inline]
    pub(crate) fn get(&self, symbol: Symbol) -> &[u8] {
        let Some(address) = self.addresses.get(symbol as usize) else { return &[] };
        let mut rest = self.arena.tail(*address);
        let len = take_varint(&mut rest).unwrap_or(0) as usize;
        rest.get(..len).unwrap_or_default()
    }

    /// The text of `symbol`. Only valid UTF-8 is interned.
    pub(crate) fn text(&self, symbol: Symbol) -> &str {
        std::str::from_utf8(self.get(symbol)).unwrap_or_default()
    }

    /// The number of `text`, if it was ever interned.
    pub(crate) fn find(&self, text: &[u8]) -> Option<Symbol> {
        let hash = hash_of(text);
        self.table.find(spread(hash), |e| e.0 == hash && self.get(e.1) == text).map(|e| e.1)
    }

    /// The number of `text`, given now if need be; nothing when the arena is full.
    pub(crate) fn intern(&mut self, text: &[u8]) -> Option<Symbol> {
        if let Some(symbol) = self.find(text) {
            return Some(symbol);
        }
        let symbol = u32::try_from(self.addresses.len()).ok()?;
        let mut entry = Vec::with_capacity(text.len() + 3);
        put_varint(&mut entry, text.len() as u64);
        entry.extend_from_slice(text);
        self.addresses.push(self.arena.push(&entry)?);
        let hash = hash_of(text);
        self.table.insert_unique(spread(hash), (hash, symbol), |e| spread(e.0));
        Some(symbol)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.arena.memory_bytes() + self.addresses.memory_bytes() + self.table.capacity() * 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_kept_once() {
        let mut symbols = Symbols::default();
        let numbers: Vec<_> =
            (0..5000).map(|i| symbols.intern(format!("v{i}").as_bytes()).unwrap()).collect();
        for (i, number) in numbers.iter().enumerate() {
            assert_eq!(symbols.text(*number), format!("v{i}"));
            assert_eq!(symbols.intern(format!("v{i}").as_bytes()), Some(*number));
        }
        assert_eq!(symbols.len(), 5000);
        assert_eq!(symbols.find(b"nothing"), None);
        assert_eq!(symbols.text(5000), "");
    }
}
