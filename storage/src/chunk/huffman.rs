//! The entropy coder of chunks: bit-length classes and zero runs under static Huffman codes. Hot path.
//!
//! A residual is zigzagged and split into its bit length (its *class*, 0..=64) and the bits below the leading one. Runs of
//! two and more zeros are one symbol and the low bits of their length. Symbols are coded with one of the code tables
//! compiled into the program (see [`super::tables`]); a symbol the table has no code for is written as ESCAPE, seven bits
//! that name it, and its extra bits. Bits are written from the most
//! significant one of each byte, so that canonical codes can be looked up by their first bits.
//!
//! ```text
//! symbol 0            one zero
//! symbol 1..=64       class c, then c-1 bits
//! symbol 65..=76      2^k..2^(k+1) zeros with k = symbol-64, then k bits
//! symbol 77           ESCAPE, then 7 bits: the symbol meant
//! ```

use super::tables::{CODE_LENGTHS, TABLES};
use crate::codec::varint::{Cursor, put_uvarint, unzigzag};
use std::sync::LazyLock;

/// How many symbols there are.
pub(super) const SYMBOLS: usize = 78;
/// The longest code, in bits.
pub(super) const CODE_BITS_MAX: u32 = 12;
/// From how many residuals on there are two interleaved streams, each with half of them.
pub(super) const TWO_STREAMS_FROM: usize = 240;
const ESCAPE: usize = 77;
const ESCAPE_BITS: u32 = 7;
const RUN_BASE: usize = 64;
const RUN_BITS_MAX: u32 = 12;
/// The highest class whose code and extra bits surely lie in one 57-bit peek.
const CLASS_IN_PEEK: u32 = 44;
/// Two symbols of at most this class fit into one peek of 57 bits: twice 12 bits of code and 15 more.
const CLASS_IN_HALF: u32 = 16;

/// How often each symbol occurs.
pub(super) type Counts = [u32; SYMBOLS];

/// One code table, ready to write and to read.
#[derive(Debug)]
pub(super) struct Table {
    lengths: [u8; SYMBOLS],
    codes: [u16; SYMBOLS],
    /// Bits of code a symbol costs, by way of ESCAPE if it has no code of its own.
    costs: [u32; SYMBOLS],
    /// By the next 12 bits: symbol << 4 | code length.
    lookup: Box<[u16; 1 << CODE_BITS_MAX]>,
}

static ALL: LazyLock<Vec<Table>> =
    LazyLock::new(|| CODE_LENGTHS.iter().map(|text| Table::from_lengths(&lengths_from_text(text))).collect());

/// The table with number `id`.
pub(super) fn table(id: u8) -> Option<&'static Table> {
    ALL.get(usize::from(id))
}

/// The number of the table under which `counts` cost least.
pub(super) fn cheapest_table(counts: &Counts) -> u8 {
    let costs = ALL.iter().map(|t| t.cost(counts));
    let best = costs.enumerate().min_by_key(|(_, cost)| *cost);
    best.map_or(0, |(id, _)| id as u8)
}

const _: () = assert!(TABLES <= 256, "table numbers are one byte");

/// Code lengths are written as one hexadecimal digit a symbol.
fn lengths_from_text(text: &str) -> [u8; SYMBOLS] {
    let mut lengths = [0; SYMBOLS];
    for (length, digit) in lengths.iter_mut().zip(text.chars()) {
        *length = digit.to_digit(16).map_or(0, |d| d as u8);
    }
    lengths
}

impl Table {
    /// Canonical codes: shorter first, then by symbol.
    pub(super) fn from_lengths(lengths: &[u8; SYMBOLS]) -> Self {
        let mut order: Vec<usize> = (0..SYMBOLS).filter(|s| lengths[*s] > 0).collect();
        order.sort_by_key(|s| (lengths[*s], *s));
        let mut codes = [0; SYMBOLS];
        let mut lookup = Box::new([0; 1 << CODE_BITS_MAX]);
        let mut start = 0_usize;
        for symbol in order {
            let length = lengths[symbol];
            let room = 1_usize << (CODE_BITS_MAX - u32::from(length));
            codes[symbol] = (start / room) as u16;
            for slot in lookup.iter_mut().skip(start).take(room) {
                *slot = (symbol as u16) << 4 | u16::from(length);
            }
            start += room;
        }
        let escape = u32::from(lengths[ESCAPE]) + ESCAPE_BITS;
        let costs = std::array::from_fn(|s| if lengths[s] > 0 { u32::from(lengths[s]) } else { escape });
        Self { lengths: *lengths, codes, costs, lookup }
    }

    /// Bits of code (without extra bits) that `counts` take.
    fn cost(&self, counts: &Counts) -> u64 {
        let bits: u32 =
            counts.iter().zip(&self.costs).map(|(n, c)| n.wrapping_mul(*c)).fold(0, u32::wrapping_add);
        u64::from(bits)
    }

    fn put(&self, bits: &mut BitWriter<'_>, symbol: usize, extra: u64, extra_bits: u32) {
        if self.lengths[symbol] > 0 {
            bits.put(u64::from(self.codes[symbol]), u32::from(self.lengths[symbol]));
        } else {
            bits.put(u64::from(self.codes[ESCAPE]), u32::from(self.lengths[ESCAPE]));
            bits.put(symbol as u64, ESCAPE_BITS);
        }
        bits.put(extra, extra_bits);
    }
}

/// The bit length of a number: 0 for 0, 64 for the largest.
#[inline]
pub(super) fn class(value: u64) -> usize {
    (64 - value.leading_zeros()) as usize
}

/// Calls `visit` with each symbol of zigzagged residuals, its extra bits and their number.
#[inline]
fn each_symbol(residuals: &[u64], mut visit: impl FnMut(usize, u64, u32)) {
    let mut rest = residuals;
    while let Some((first, after)) = rest.split_first() {
        if *first != 0 {
            let class = class(*first);
            let extra_bits = class as u32 - 1;
            visit(class, first & !(1 << extra_bits), extra_bits);
            rest = after;
            continue;
        }
        let run = rest.iter().take_while(|r| **r == 0).count().min((2 << RUN_BITS_MAX) - 1);
        if run >= 2 {
            let bits = run.ilog2();
            visit(RUN_BASE + bits as usize, run as u64 - (1 << bits), bits);
        } else {
            visit(0, 0, 0);
        }
        rest = &rest[run..];
    }
}

/// The residuals of each stream.
fn streams<T>(residuals: &[T]) -> (&[T], &[T]) {
    if residuals.len() < TWO_STREAMS_FROM {
        (residuals, &[])
    } else {
        residuals.split_at(residuals.len() / 2)
    }
}

/// How often each symbol occurs in `residuals` (zigzagged) as [`write`] would write them.
pub(super) fn count(residuals: &[u64]) -> Counts {
    let mut counts = [0; SYMBOLS];
    let (first, second) = streams(residuals);
    each_symbol(first, |symbol, _, _| counts[symbol] += 1);
    each_symbol(second, |symbol, _, _| counts[symbol] += 1);
    counts
}

/// Writes zigzagged residuals: the table's number, the length of the first stream if there are two, the streams.
pub(super) fn write(residuals: &[u64], out: &mut Vec<u8>) {
    let id = cheapest_table(&count(residuals));
    out.push(id);
    let Some(table) = table(id) else { return };
    let (first, second) = streams(residuals);
    let start = out.len();
    write_stream(table, first, out);
    if residuals.len() >= TWO_STREAMS_FROM {
        let mut length = Vec::with_capacity(5);
        put_uvarint(&mut length, (out.len() - start) as u64);
        out.splice(start..start, length);
        write_stream(table, second, out);
    }
}

fn write_stream(table: &Table, residuals: &[u64], out: &mut Vec<u8>) {
    let mut bits = BitWriter { out, pending: 0, pending_bits: 0 };
    each_symbol(residuals, |symbol, extra, extra_bits| table.put(&mut bits, symbol, extra, extra_bits));
    bits.finish();
}

/// Reads as many residuals as `out` is long from `bytes`, which [`write`] wrote and which hold nothing else.
/// `padded` is scratch. `None` if the bytes are not such.
pub(super) fn read(bytes: &[u8], padded: &mut Vec<u8>, out: &mut [i64]) -> Option<()> {
    let (id, rest) = bytes.split_first()?;
    let table = table(*id)?;
    out.fill(0);
    let mut reader = Cursor::new(rest);
    let (first_bytes, second_bytes) = if out.len() < TWO_STREAMS_FROM {
        (rest.len(), 0)
    } else {
        let length = usize::try_from(reader.uvarint()?).ok()?;
        (length, reader.rest().len().checked_sub(length)?)
    };
    // Eight more bytes keep every peek at valid bits on the fast path.
    padded.clear();
    padded.extend_from_slice(reader.rest());
    padded.extend_from_slice(&[0; 8]);
    let half = if out.len() < TWO_STREAMS_FROM { out.len() } else { out.len() / 2 };
    let (first_out, second_out) = out.split_at_mut(half);
    let mut first = Stream { bit: 0, at: 0 };
    let mut second = Stream { bit: first_bytes * 8, at: 0 };
    while first.at < first_out.len() && second.at < second_out.len() {
        first.step(table, padded, first_out)?;
        second.step(table, padded, second_out)?;
    }
    while first.at < first_out.len() {
        first.step(table, padded, first_out)?;
    }
    while second.at < second_out.len() {
        second.step(table, padded, second_out)?;
    }
    let filled = first.at == first_out.len() && second.at == second_out.len();
    let inside = first.bit <= first_bytes * 8 && second.bit <= (first_bytes + second_bytes) * 8;
    (filled && inside).then_some(())
}

/// A reader of one stream: the next bit, and where the next residual goes.
struct Stream {
    bit: usize,
    at: usize,
}

impl Stream {
    /// Reads one symbol. `at` moves forward at least by one; it may pass the end of `out`, which the caller checks.
    #[inline(always)]
    fn step(&mut self, table: &Table, bytes: &[u8], out: &mut [i64]) -> Option<()> {
        let word = peek(bytes, self.bit);
        let entry = table.lookup[(word >> (64 - CODE_BITS_MAX)) as usize];
        let symbol = u32::from(entry >> 4);
        let length = u32::from(entry & 15);
        let after = word.wrapping_shl(length);
        if symbol <= CLASS_IN_PEEK {
            let extra_bits = symbol.saturating_sub(1);
            let extra = (after >> 1).wrapping_shr(63 - extra_bits);
            self.bit = self.bit.wrapping_add((length + extra_bits) as usize);
            let leading = u64::from(symbol != 0).wrapping_shl(extra_bits);
            *out.get_mut(self.at)? = unzigzag(extra | leading);
            self.at = self.at.wrapping_add(1);
            if symbol <= CLASS_IN_HALF {
                self.step_again(table, after.wrapping_shl(extra_bits), out);
            }
            return Some(());
        }
        if symbol > RUN_BASE as u32 && symbol != ESCAPE as u32 {
            let extra_bits = symbol - RUN_BASE as u32;
            let extra = (after >> 1).wrapping_shr(63 - extra_bits);
            self.bit = self.bit.wrapping_add((length + extra_bits) as usize);
            self.at = self.at.wrapping_add((1 << extra_bits) | extra as usize);
            return Some(());
        }
        self.bit = self.bit.wrapping_add(length as usize);
        self.step_rare(symbol, bytes, out)
    }

    /// Reads one more symbol from the bits that a peek has left, if it is one of the short classes.
    #[inline(always)]
    fn step_again(&mut self, table: &Table, word: u64, out: &mut [i64]) {
        let entry = table.lookup[(word >> (64 - CODE_BITS_MAX)) as usize];
        let (symbol, length) = (u32::from(entry >> 4), u32::from(entry & 15));
        let Some(slot) = out.get_mut(self.at).filter(|_| symbol <= CLASS_IN_HALF) else { return };
        let extra_bits = symbol.saturating_sub(1);
        let extra = (word.wrapping_shl(length) >> 1).wrapping_shr(63 - extra_bits);
        let leading = u64::from(symbol != 0).wrapping_shl(extra_bits);
        *slot = unzigzag(extra | leading);
        self.bit = self.bit.wrapping_add((length + extra_bits) as usize);
        self.at = self.at.wrapping_add(1);
    }

    /// A class too wide for one peek, or ESCAPE; its code is already behind us.
    #[cold]
    fn step_rare(&mut self, code: u32, bytes: &[u8], out: &mut [i64]) -> Option<()> {
        let symbol = if code == ESCAPE as u32 { self.take(bytes, ESCAPE_BITS) as u32 } else { code };
        if symbol == 0 {
            self.at += 1;
        } else if symbol <= RUN_BASE as u32 {
            let extra = self.take(bytes, symbol - 1);
            *out.get_mut(self.at)? = unzigzag(extra | 1 << (symbol - 1));
            self.at += 1;
        } else if symbol < ESCAPE as u32 {
            let extra_bits = symbol - RUN_BASE as u32;
            self.at += (1 << extra_bits) | self.take(bytes, extra_bits) as usize;
        } else {
            return None;
        }
        Some(())
    }

    /// The next `count` (0..=64) bits.
    fn take(&mut self, bytes: &[u8], count: u32) -> u64 {
        let high_bits = count.min(32);
        let high = peek(bytes, self.bit).checked_shr(64 - high_bits).unwrap_or(0);
        self.bit += high_bits as usize;
        let low_bits = count - high_bits;
        let low = peek(bytes, self.bit).checked_shr(64 - low_bits).unwrap_or(0);
        self.bit += low_bits as usize;
        (high << low_bits) | low
    }
}

/// At least 57 bits from bit `at` on, at the top of the word; zeros after the end.
#[inline(always)]
fn peek(bytes: &[u8], at: usize) -> u64 {
    let word = match bytes.get(at >> 3..).and_then(<[u8]>::first_chunk) {
        Some(chunk) => u64::from_be_bytes(*chunk),
        None => 0,
    };
    word.wrapping_shl((at & 7) as u32)
}

/// Writes bits, most significant first.
struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    pending_bits: u32,
}

impl BitWriter<'_> {
    /// Appends the low `count` (0..=64) bits of `value`; its other bits are zero.
    fn put(&mut self, value: u64, count: u32) {
        if count > 32 {
            self.put(value >> 32, count - 32);
            return self.put(value & u64::from(u32::MAX), 32);
        }
        self.pending = (self.pending << count) | value;
        self.pending_bits += count;
        while self.pending_bits >= 8 {
            self.pending_bits -= 8;
            self.out.push((self.pending >> self.pending_bits) as u8);
        }
    }

    fn finish(mut self) {
        if self.pending_bits > 0 {
            self.put(0, 8 - self.pending_bits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::varint::zigzag;

    #[test]
    fn every_table_is_a_complete_code_with_an_escape() {
        assert_eq!(ALL.len(), TABLES);
        for table in ALL.iter() {
            let kraft: u32 =
                table.lengths.iter().filter(|l| **l > 0).map(|l| 1 << (12 - u32::from(*l))).sum();
            assert_eq!(kraft, 1 << 12);
            assert!(table.lengths[ESCAPE] > 0 && table.lengths.iter().all(|l| *l <= 12));
        }
    }

    #[test]
    fn residuals_of_every_class_come_back() {
        for len in [1, 2, 239, 240, 241, if cfg!(miri) { 300 } else { 20_000 }] {
            let residuals: Vec<i64> = (0..len)
                .map(|i| if i % 5 < 2 || i > 9000 { 0 } else { (-1_i64).wrapping_pow(i) << (i % 64) })
                .collect();
            let zigzagged: Vec<u64> = residuals.iter().map(|r| zigzag(*r)).collect();
            let mut bytes = Vec::new();
            write(&zigzagged, &mut bytes);
            let mut back = vec![7; len as usize];
            read(&bytes, &mut Vec::new(), &mut back).unwrap();
            assert_eq!(back, residuals);
            assert_eq!(read(&bytes[..bytes.len() - 1], &mut Vec::new(), &mut back), None);
        }
    }
}
