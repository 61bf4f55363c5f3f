//! The allocator of the process, told to give freed memory back to the system soon.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 2 and 3 (`enum mi_option_e` in mimalloc.h).
const PURGE_DELAY: c_int = 15;
/// How long freed pages may lie before they go back, in milliseconds. mimalloc's own second is long enough for a query to come on
/// top of what the one before has freed; this is as long as a buffer that goes from request to request rests.
const PURGE_DELAY_MS: c_long = 1;

// SAFETY: as mimalloc.h declares it.
unsafe extern "C" {
    /// Gives an option a value unless the environment did.
    fn mi_option_set_default(option: c_int, value: c_long);
}

/// To be called first of all. `MIMALLOC_PURGE_DELAY` in the environment has the last word.
pub(crate) fn give_back_soon() {
    // SAFETY: the call writes one number into a table of the allocator that lives as long as the process; the option is within the
    // table, and no other thread runs yet.
    unsafe { mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) }
}
