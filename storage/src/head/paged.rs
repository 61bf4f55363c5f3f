//! `Paged`: a vector in pages of fixed size, so that growth neither moves nor copies what is in it.

use hashbrown::HashMap;

/// Items in one page.
pub(crate) const PAGE_LEN: usize = 4096;

/// Items by number, appended at the end. Wastes at most one page.
#[derive(Debug, Clone)]
pub(crate) struct Paged<T> {
    pages: Vec<Vec<T>>,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Paged<T> {
    pub(crate) fn len(&self) -> usize {
        match self.pages.last() {
            Some(last) => (self.pages.len() - 1) * PAGE_LEN + last.len(),
            None => 0,
        }
    }

    pub(crate) fn push(&mut self, item: T) {
        match self.pages.last_mut() {
            Some(last) if last.len() < PAGE_LEN => last.push(item),
            _ => {
                let mut page = Vec::with_capacity(PAGE_LEN);
                page.push(item);
                self.pages.push(page);
            }
        }
    }

    /// Removes the items from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len >= self.len() {
            return;
        }
        self.pages.truncate(len.div_ceil(PAGE_LEN));
        if let Some(last) = self.pages.last_mut()
            && !len.is_multiple_of(PAGE_LEN)
        {
            last.truncate(len % PAGE_LEN);
        }
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index / PAGE_LEN)?.get(index % PAGE_LEN)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.pages.get_mut(index / PAGE_LEN)?.get_mut(index % PAGE_LEN)
    }

    /// Deals the pages out: part `i` of `count` gets every `count`-th page from page `i` on.
    pub(crate) fn deal(self, count: usize) -> Vec<Self> {
        let mut parts: Vec<Self> = (0..count).map(|_| Self::default()).collect();
        for (number, page) in self.pages.into_iter().enumerate() {
            if let Some(part) = parts.get_mut(number % count.max(1)) {
                part.pages.push(page);
            }
        }
        parts
    }

    /// The reverse of [`Paged::deal`]. All pages but the last of the whole must be full.
    pub(crate) fn gather(parts: impl Iterator<Item = Self>) -> Self {
        let mut parts: Vec<_> = parts.map(|part| part.pages.into_iter()).collect();
        let mut pages = Vec::new();
        loop {
            let before = pages.len();
            pages.extend(parts.iter_mut().filter_map(Iterator::next));
            if pages.len() == before {
                return Self { pages };
            }
        }
    }

    /// Bytes of memory held, unused room included.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.pages.len() * PAGE_LEN * size_of::<T>()
    }
}

/// The largest page of an [`Arena`]; an address is `page * ARENA_PAGE_BYTES + offset` in a `u32`.
const ARENA_PAGE_BYTES: usize = 64 * 1024;

/// Byte strings one after another in pages; a string never crosses a page. Addresses are 32 bits: 4 GiB at most.
///
/// The place of a string that was removed is taken by the next of the same length: strings that come and go are alike, and
/// nothing need ever be moved.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    pages: Vec<Vec<u8>>,
    /// Addresses of removed strings, by their length.
    free: HashMap<u32, Vec<u32>>,
    free_bytes: usize,
}

impl Arena {
    /// Stores `bytes` and answers the address, or nothing when the arena is full or the string too long.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Option<u32> {
        if let Some(address) = self.free.get_mut(&(bytes.len() as u32)).and_then(Vec::pop) {
            self.free_bytes -= bytes.len();
            self.place_mut(address, bytes.len())?.copy_from_slice(bytes);
            return Some(address);
        }
        let is_room = self.pages.last().is_some_and(|page| page.len() + bytes.len() <= ARENA_PAGE_BYTES);
        if !is_room {
            if bytes.len() > ARENA_PAGE_BYTES || self.pages.len() >= (1 << 32) / ARENA_PAGE_BYTES {
                return None;
            }
            self.pages.push(Vec::with_capacity(ARENA_PAGE_BYTES));
        }
        let number = self.pages.len() - 1;
        let page = self.pages.last_mut()?;
        let address = number * ARENA_PAGE_BYTES + page.len();
        page.extend_from_slice(bytes);
        u32::try_from(address).ok()
    }

    fn place_mut(&mut self, address: u32, len: usize) -> Option<&mut [u8]> {
        let (page, start) = (address as usize / ARENA_PAGE_BYTES, address as usize % ARENA_PAGE_BYTES);
        self.pages.get_mut(page)?.get_mut(start..start + len)
    }

    /// Gives the place of the `len` bytes at `address` to others.
    pub(crate) fn remove(&mut self, address: u32, len: usize) {
        self.free.entry(len as u32).or_default().push(address);
        self.free_bytes += len;
    }

    /// Whether it is mostly holes, as when the lengths of what comes differ from those of what went.
    pub(crate) fn is_sparse(&self) -> bool {
        self.free_bytes > (self.pages.len() * ARENA_PAGE_BYTES / 2).max(2 * ARENA_PAGE_BYTES)
    }

    /// Everything from `address` to the end of its page.
    #[inline]
    pub(crate) fn tail(&self, address: u32) -> &[u8] {
        let address = address as usize;
        let page = self.pages.get(address / ARENA_PAGE_BYTES).map_or(&[][..], Vec::as_slice);
        page.get(address % ARENA_PAGE_BYTES..).unwrap_or_default()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let free: usize = self.free.values().map(|places| 32 + places.capacity() * 4).sum();
        self.pages.len() * ARENA_PAGE_BYTES + free
    }
}

/// Appends `value` in the fewest bytes of seven bits.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads what [`put_varint`] wrote and moves `bytes` behind it; nothing if the bytes end or are longer than 64 bits.
#[inline]
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    let mut shift = 0u32;
    loop {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
        shift += 7;
        if shift > 63 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_keep_what_they_hold() {
        let mut paged = Paged::default();
        let mut arena = Arena::default();
        let mut addresses = Vec::new();
        for i in 0..10_000usize {
            paged.push(i);
            addresses.push(arena.push(format!("value {i}").as_bytes()).unwrap());
        }
        assert_eq!(paged.len(), 10_000);
        for i in (0..10_000usize).step_by(997) {
            assert_eq!(paged.get(i), Some(&i));
            assert!(arena.tail(addresses[i]).starts_with(format!("value {i}").as_bytes()));
        }
        assert_eq!(paged.get(10_000), None);
        assert_eq!(arena.push(&[0; ARENA_PAGE_BYTES + 1]), None);
    }

    #[test]
    fn the_place_of_a_removed_string_is_used_again() {
        let mut arena = Arena::default();
        let (first, second) = (arena.push(b"one").unwrap(), arena.push(b"three").unwrap());
        let bytes = arena.memory_bytes();
        arena.remove(first, 3);
        assert_ne!(arena.push(b"four").unwrap(), first);
        assert_eq!(arena.push(b"two").unwrap(), first);
        assert!(arena.tail(first).starts_with(b"two") && arena.tail(second).starts_with(b"three"));
        assert!(arena.memory_bytes() < bytes + 100);
    }

    #[test]
    fn varints_round_trip() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut rest = out.as_slice();
            assert_eq!(take_varint(&mut rest), Some(value));
            assert!(rest.is_empty());
        }
        assert_eq!(take_varint(&mut &[0x80][..]), None);
        assert_eq!(take_varint(&mut &[0xff; 11][..]), None);
    }
}
