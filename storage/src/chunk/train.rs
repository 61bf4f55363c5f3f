//! The generator of `tables.rs`: clusters the symbol counts of many chunks and prints code lengths.
//!
//! Run by hand: `cargo test -p kymo-storage --lib chunk::train -- --ignored --nocapture`, with the capture to learn from
//! (decompressed `process.bin`, see the captures' README) named in `KYMO_TRAIN`; the last lines printed are the file.

use super::huffman::{CODE_BITS_MAX, Counts, SYMBOLS};
use super::{ints, number};
use std::collections::BTreeMap;

const CLUSTERS: usize = 64;
/// Symbols rarer than one in so many get no code of their own.
const RARE: f64 = 1500.0;
const ESCAPE: usize = SYMBOLS - 1;

type Weights = [f64; SYMBOLS];

/// Series of a capture: frames of `i64 t, u32 n, n * (u32 series, f64 value)`, every `keep`th frame kept.
fn capture(bytes: &[u8], keep: usize) -> Vec<Vec<f64>> {
    let mut series: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    let mut rest = bytes;
    for frame in 0.. {
        let Some((header, after)) = rest.split_first_chunk::<12>() else { break };
        let count = u32::from_le_bytes(header[8..].try_into().unwrap()) as usize;
        let (body, after) = after.split_at(count * 12);
        if frame % keep == 0 {
            for sample in body.as_chunks::<12>().0 {
                let id = u32::from_le_bytes(sample[..4].try_into().unwrap());
                let value = f64::from_le_bytes(sample[4..].try_into().unwrap());
                series.entry(id).or_default().push(value);
            }
        }
        rest = after;
    }
    series.into_values().collect()
}

/// Invented series of many kinds: counters of all speeds, gauges of all precisions, sums of floats, spikes, steps.
fn synthetic() -> Vec<Vec<f64>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut all = Vec::new();
    for kind in 0..720 {
        let scale = 10_f64.powf(random() * 9.0);
        let digits = 10_f64.powi((random() * 6.0) as i32);
        let busy = random();
        let (mut level, mut walk) = (scale * random() * 100.0, 0.0);
        let mut chunk = Vec::with_capacity(480);
        for _ in 0..480 {
            let normal = (0..6).map(|_| random()).sum::<f64>() / 3.0 - 1.0;
            match kind % 6 {
                0 if random() < busy => level += (scale * random()).round(),
                1 => level += (scale * (1.0 + normal * busy)).round().max(0.0),
                2 => level = (scale * normal * digits).round() / digits,
                3 => level += (scale * random() * digits).round() / digits / scale.sqrt(),
                4 if random() < busy * busy => level = (scale * random()).round(),
                5 => {
                    walk += normal;
                    level = scale * (walk * busy).exp();
                }
                _ => {}
            }
            chunk.push(level);
        }
        all.push(chunk);
    }
    all
}

fn chunk_counts(chunk: &[f64], all: &mut Vec<Counts>) {
    if chunk.len() < 8 || chunk.iter().all(|v| v.to_bits() == chunk[0].to_bits()) {
        return;
    }
    let size =
        |c: &Counts| c.iter().enumerate().map(|(s, n)| u64::from(*n) * (s.min(64) as u64 + 2)).sum::<u64>();
    let decimal = number::decimal(chunk).map(|m| vec![ints::plan(&m.1.integers).counts()]);
    let ulp = number::decimal_ulp(chunk)
        .map(|(_, near, far)| vec![ints::plan(&near.integers).counts(), ints::plan(&far).counts()]);
    let order = vec![ints::plan(&number::float_order(chunk).integers).counts()];
    let best = decimal.into_iter().chain(ulp).chain([order]).min_by_key(|c| c.iter().map(size).sum::<u64>());
    all.extend(best.unwrap());
}

/// Huffman code lengths of at most [`CODE_BITS_MAX`] bits; rare symbols are left to ESCAPE.
fn code_lengths(counts: &Weights) -> [u8; SYMBOLS] {
    let total: f64 = counts.iter().sum();
    let mut weights: Weights =
        std::array::from_fn(|s| if counts[s] < total / RARE { 0.0 } else { counts[s] });
    weights[ESCAPE] = total - weights.iter().sum::<f64>() + total / 4000.0;
    loop {
        let mut nodes: Vec<(f64, Vec<usize>)> =
            (0..SYMBOLS).filter(|s| weights[*s] > 0.0).map(|s| (weights[s], vec![s])).collect();
        let mut lengths = [0; SYMBOLS];
        while nodes.len() > 1 {
            nodes.sort_by(|a, b| b.0.total_cmp(&a.0));
            let (a, b) = (nodes.pop().unwrap(), nodes.pop().unwrap());
            let members = [a.1, b.1].concat();
            members.iter().for_each(|s| lengths[*s] += 1);
            nodes.push((a.0 + b.0, members));
        }
        if lengths.iter().all(|l| u32::from(*l) <= CODE_BITS_MAX) {
            return lengths;
        }
        weights.iter_mut().filter(|w| **w > 0.0).for_each(|w| *w += total / 4096.0);
    }
}

fn cost(counts: &Counts, lengths: &[u8; SYMBOLS]) -> f64 {
    let length = |s: usize| if lengths[s] > 0 { lengths[s] } else { lengths[ESCAPE] + 7 };
    (0..SYMBOLS).map(|s| f64::from(counts[s]) * f64::from(length(s))).sum()
}

/// Lets each class lend a little to its neighbours: what is near in one fleet is met in another.
fn smooth(counts: &Weights) -> Weights {
    let neighbour =
        |s: usize, n: usize| if s >= 1 && n >= 1 && (s <= 64) == (n <= 64) { counts[n] } else { 0.0 };
    std::array::from_fn(|s| match s {
        ESCAPE => 0.0,
        _ => counts[s] + 0.04 * (neighbour(s, s.saturating_sub(1)) + neighbour(s, (s + 1).min(ESCAPE - 1))),
    })
}

fn cluster(all: &[Counts]) -> Vec<[u8; SYMBOLS]> {
    let mean_class = |c: &Counts| {
        let class = |s: usize| if s > 64 { 2.0 * (64.0 - s as f64) } else { s as f64 };
        let total: u32 = c.iter().sum();
        (0..SYMBOLS).map(|s| class(s) * f64::from(c[s])).sum::<f64>() / f64::from(total)
    };
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by(|a, b| mean_class(&all[*a]).total_cmp(&mean_class(&all[*b])));
    let mut member_of = vec![0; all.len()];
    for (place, chunk) in order.iter().enumerate() {
        member_of[*chunk] = place * CLUSTERS / order.len();
    }
    let mut lengths = vec![[0; SYMBOLS]; CLUSTERS];
    for _ in 0..30 {
        let mut sums = vec![[0.0; SYMBOLS]; CLUSTERS];
        for (counts, cluster) in all.iter().zip(&member_of) {
            // Each chunk weighs the same, however many symbols it has.
            let total: u32 = counts.iter().sum();
            (0..SYMBOLS).for_each(|s| sums[*cluster][s] += f64::from(counts[s]) / f64::from(total).sqrt());
        }
        for (lengths, sums) in lengths.iter_mut().zip(&sums) {
            if sums.iter().any(|s| *s > 0.0) {
                *lengths = code_lengths(&smooth(sums));
            }
        }
        for (counts, cluster) in all.iter().zip(&mut member_of) {
            let best = (0..CLUSTERS)
                .min_by(|a, b| cost(counts, &lengths[*a]).total_cmp(&cost(counts, &lengths[*b])));
            *cluster = best.unwrap();
        }
    }
    lengths
}

#[test]
#[ignore = "a generator, run by hand"]
fn print_tables() {
    let path = std::env::var("KYMO_TRAIN").expect("KYMO_TRAIN names a decompressed capture");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::OpenOptions::new().read(true).open(path).unwrap(), &mut bytes)
        .unwrap();
    let mut all = Vec::new();
    for (keep, length) in [(15, 480), (5, 480), (5, 1920), (1, 1920)] {
        for series in capture(&bytes, keep) {
            series.chunks(length).for_each(|chunk| chunk_counts(chunk, &mut all));
        }
    }
    let of_capture = all.len();
    for chunk in synthetic() {
        chunk_counts(&chunk, &mut all);
    }
    println!(
        "// learnt from {of_capture} columns of the capture and {} invented ones",
        all.len() - of_capture
    );
    for lengths in cluster(&all) {
        let digits: String = lengths.iter().map(|l| char::from_digit(u32::from(*l), 16).unwrap()).collect();
        println!("    \"{digits}\",");
    }
}

/// Prints bytes a sample of the values of the capture in `KYMO_MEASURE`, kept at 15 s and at 1 s.
#[test]
#[ignore = "a measurement, run by hand"]
fn measure_capture() {
    let path = std::env::var("KYMO_MEASURE").expect("KYMO_MEASURE names a decompressed capture");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::OpenOptions::new().read(true).open(path).unwrap(), &mut bytes)
        .unwrap();
    for (keep, length) in [(15, 120), (15, 480), (1, 480), (1, 1920)] {
        let mut encoder = super::ValueEncoder::new();
        let (mut samples, mut size, mut constants) = (0, 0, 0);
        let mut payload = Vec::new();
        for series in capture(&bytes, keep) {
            for chunk in series.chunks(length) {
                payload.clear();
                encoder.encode_verified(chunk, &mut payload);
                samples += chunk.len();
                size += payload.len();
                constants += usize::from(payload.first().is_some_and(|b| b & 3 == 0) && payload.len() < 11)
                    * chunk.len();
            }
        }
        println!(
            "every {keep} s, chunks of {length}: {:.4} B/sample, {:.1} % constant, {} fallbacks",
            size as f64 / samples as f64,
            100.0 * constants as f64 / samples as f64,
            encoder.fallbacks()
        );
    }
}
