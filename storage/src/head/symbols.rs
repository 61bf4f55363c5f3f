//! Every distinct label name and value once: an arena of strings, numbered in order of first arrival. Each is kept as long as
//! something uses it; then its number and its place are given to the next.

use super::paged::{Arena, Paged, put_varint, take_varint};
use hashbrown::HashTable;

/// The number of a string.
pub(crate) type Symbol = u32;

/// Strings by number and numbers by string.
#[derive(Default)]
pub(crate) struct Symbols {
    arena: Arena,
    addresses: Paged<u32>,
    /// How many label pairs and shapes use each.
    uses: Paged<u32>,
    /// Numbers that stand for nothing now.
    free: Vec<Symbol>,
    /// (half of the string's hash, its number): growing the table then needs no string.
    table: HashTable<(u32, Symbol)>,
}

/// The address of a number that stands for nothing.
const NO_ADDRESS: u32 = u32::MAX;

/// The strings only need to be spread, not kept apart, so an unkeyed hash of 32 bits is enough; flooding one bucket
/// costs a sender as many series as it gains comparisons, and those are limited.
fn hash_of(text: &[u8]) -> u32 {
    (xxhash_rust::xxh3::xxh3_64(text) >> 32) as u32
}

/// As the string lies in the arena.
fn entry_of(text: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(text.len() + 3);
    put_varint(&mut entry, text.len() as u64);
    entry.extend_from_slice(text);
    entry
}

fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl Symbols {
    /// How many strings there are.
    pub(crate) fn len(&self) -> usize {
        self.addresses.len() - self.free.len()
    }

    /// One more than the highest number ever given.
    pub(crate) fn numbers(&self) -> u32 {
        self.addresses.len() as u32
    }

    /// Whether `symbol` stands for a string.
    pub(crate) fn contains(&self, symbol: Symbol) -> bool {
        self.addresses.get(symbol as usize).is_some_and(|address| *address != NO_ADDRESS)
    }

    /// The bytes of `symbol`; empty for a number never given.
    #[inline]
    pub(crate) fn get(&self, symbol: Symbol) -> &[u8] {
        let address = self.addresses.get(symbol as usize).copied().unwrap_or(NO_ADDRESS);
        if address == NO_ADDRESS {
            return &[];
        }
        let mut rest = self.arena.tail(address);
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

    /// The number of `text`, given now if need be; nothing when the arena is full. Who uses it says so by [`Symbols::hold`].
    pub(crate) fn intern(&mut self, text: &[u8]) -> Option<Symbol> {
        if let Some(symbol) = self.find(text) {
            return Some(symbol);
        }
        let next = u32::try_from(self.addresses.len()).ok()?;
        let address = self.arena.push(&entry_of(text))?;
        let symbol = match self.free.pop() {
            Some(symbol) => {
                *self.addresses.get_mut(symbol as usize)? = address;
                symbol
            }
            None => {
                self.addresses.push(address);
                self.uses.push(0);
                next
            }
        };
        let hash = hash_of(text);
        self.table.insert_unique(spread(hash), (hash, symbol), |e| spread(e.0));
        Some(symbol)
    }

    /// One more uses `symbol`.
    pub(crate) fn hold(&mut self, symbol: Symbol) {
        if let Some(uses) = self.uses.get_mut(symbol as usize) {
            *uses = uses.saturating_add(1);
        }
    }

    /// One less uses `symbol`; the last takes it away.
    pub(crate) fn release(&mut self, symbol: Symbol) {
        let Some(uses) = self.uses.get_mut(symbol as usize).filter(|uses| **uses > 0) else { return };
        *uses -= 1;
        if *uses > 0 {
            return;
        }
        let (hash, len) = (hash_of(self.get(symbol)), entry_of(self.get(symbol)).len());
        if let Ok(entry) = self.table.find_entry(spread(hash), |e| e.1 == symbol) {
            entry.remove();
        }
        if let Some(address) = self.addresses.get_mut(symbol as usize) {
            self.arena.remove(std::mem::replace(address, NO_ADDRESS), len);
            self.free.push(symbol);
        }
    }

    /// Puts the strings into an arena without holes, if it has many.
    pub(crate) fn close_holes(&mut self) {
        if !self.arena.is_sparse() {
            return;
        }
        let mut arena = Arena::default();
        for symbol in 0..self.numbers() {
            if !self.contains(symbol) {
                continue;
            }
            let moved = arena.push(&entry_of(self.get(symbol)));
            if let Some(address) = self.addresses.get_mut(symbol as usize) {
                // An arena with holes held more.
                *address = moved.unwrap_or(NO_ADDRESS);
            }
        }
        self.arena = arena;
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let numbers = self.addresses.memory_bytes() + self.uses.memory_bytes() + self.free.capacity() * 4;
        self.arena.memory_bytes() + numbers + self.table.capacity() * 10
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

    #[test]
    fn what_nobody_uses_makes_room() {
        let mut symbols = Symbols::default();
        for round in 0..20 {
            let numbers: Vec<_> =
                (0..5000).map(|i| symbols.intern(format!("{round:02} {i:04}").as_bytes()).unwrap()).collect();
            numbers.iter().for_each(|number| symbols.hold(*number));
            symbols.hold(numbers[7]);
            assert_eq!((symbols.len(), symbols.numbers()), (5000 + round, 5000 + round as u32));
            numbers.iter().for_each(|number| symbols.release(*number));
            assert_eq!(symbols.find(format!("{round:02} 0008").as_bytes()), None);
            assert_eq!(symbols.text(numbers[7]), format!("{round:02} 0007"));
            assert!(symbols.contains(numbers[7]) && !symbols.contains(numbers[8]));
        }
    }
}
