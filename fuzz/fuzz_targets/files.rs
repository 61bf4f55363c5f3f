//! Fuzz target `files`: see `tests/fuzz_bodies/src`.
#![no_main]

use kymo_fuzz_bodies::allocations::{Guard, arm};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static GUARD: Guard = Guard;

fuzz_target!(init: arm(), |data: &[u8]| (kymo_fuzz_bodies::target("files").run)(data));
