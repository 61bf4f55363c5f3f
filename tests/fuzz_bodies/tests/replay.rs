//! Replays what the fuzzers are known to reach: the seeds, the committed corpora, and every input that was once a finding.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a failed expectation is a failed test; it prints what it replayed"
)]

use kymo_fuzz_bodies::allocations::{self, Guard};
use kymo_fuzz_bodies::{TARGETS, Target};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

#[global_allocator]
static GUARD: Guard = Guard;

/// An input that takes longer hangs; fuzzing itself is stricter.
const PATIENCE: Duration = Duration::from_secs(60);

static PANICS: AtomicUsize = AtomicUsize::new(0);
static LAST: Mutex<String> = Mutex::new(String::new());

fn folder(kind: &str, target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(kind).join(target.name)
}

fn stored(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

/// Runs one input; panics on any thread, time and allocations are judged. Answers the largest single allocation.
fn replay(target: &Target, name: &str, bytes: &[u8]) -> usize {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    static HOOK: Once = Once::new();
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    HOOK.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            *LAST.lock().unwrap() = info.to_string();
            hook(info);
        }));
    });
    allocations::take_largest();
    let began = Instant::now();
    let before = PANICS.load(Ordering::SeqCst);
    let ended = std::panic::catch_unwind(|| (target.run)(bytes));
    let panics = PANICS.load(Ordering::SeqCst) - before;
    let why = LAST.lock().unwrap().clone();
    assert!(ended.is_ok() && panics == 0, "{name}: {why}");
    assert!(began.elapsed() < PATIENCE, "{name}: {:?}", began.elapsed());
    let largest = allocations::take_largest();
    assert!(largest <= allocations::LARGEST_MAX, "{name}: an allocation of {largest} bytes");
    largest
}

#[test]
fn every_known_input_ends_well() {
    let (mut inputs, mut largest) = (0, 0);
    for target in TARGETS {
        let mut all: Vec<(String, Vec<u8>)> = (target.seeds)()
            .into_iter()
            .enumerate()
            .map(|(i, bytes)| (format!("seed {i} of {}", target.name), bytes))
            .collect();
        for kind in ["corpus", "regressions"] {
            all.extend(stored(&folder(kind, target)));
        }
        for (name, bytes) in &all {
            replay(target, name, bytes);
            largest = largest.max(bytes.len());
        }
        assert!(!all.is_empty());
        inputs += all.len();
    }
    println!(
        "replay targets={} inputs={inputs} longest_bytes={largest} panics=0 peak_mib={}",
        TARGETS.len(),
        allocations::peak() >> 20
    );
}

/// Changes inputs as a careless fuzzer does: bytes, bits, pieces that go, come twice, or come from another input.
struct Changes(u64);

impl Changes {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    fn change(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        const TELLING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'{', b'"', b'\n'];
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(7) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = TELLING[self.below(TELLING.len())],
                2 => bytes.truncate(at),
                3 => drop(bytes.drain(at..(at + self.below(16)).min(bytes.len()))),
                4 => {
                    let piece = bytes[at..(at + self.below(32)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
                5 if !other.is_empty() => {
                    let from = self.below(other.len());
                    let piece = other[from..(from + self.below(64)).min(other.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => bytes.splice(at..at, [0xff; 9]).for_each(drop),
            }
        }
        bytes
    }
}

/// `KYMO_FUZZ_CHANGES` is how many changes of each known input are tried, `PROPTEST_RNG_SEED` which.
#[test]
fn changed_inputs_end_well_and_take_little_memory() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (each, seed) = (number("KYMO_FUZZ_CHANGES").unwrap_or(3), number("PROPTEST_RNG_SEED").unwrap_or(1));
    let mut changes = Changes(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut tried, mut largest) = (0_u64, 0);
    for target in TARGETS {
        let seeds = (target.seeds)();
        for input in &seeds {
            for _ in 0..each {
                let other = &seeds[changes.below(seeds.len())];
                let changed = changes.change(input, other);
                let name = format!("{} with {changed:?}", target.name);
                largest = largest.max(replay(target, &name, &changed));
                tried += 1;
            }
        }
    }
    println!(
        "alloc inputs={tried} max_single_mib={:.1} peak_mib={}",
        largest as f64 / 1_048_576.0,
        allocations::peak() >> 20
    );
}

/// A fuzzer that is not built or not kept is none.
#[test]
fn every_target_has_its_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    for target in TARGETS {
        let body = std::fs::read_to_string(root.join(format!("fuzz_targets/{}.rs", target.name))).unwrap();
        assert!(body.contains(&format!("\"{}\"", target.name)), "{}", target.name);
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
    }
}
