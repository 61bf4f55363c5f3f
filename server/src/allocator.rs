//! The allocator of the process, told to hold no more memory than is in use.

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

/// To be called first of all. `MIMALLOC_PURGE_DELAY` in the environment has the last word on when freed pages go back.
pub(crate) fn hold_little() {
    no_huge_pages();
    // SAFETY: the call writes one number into a table of the allocator that lives as long as the process; the option is within the
    // table, and no other thread runs yet.
    unsafe { mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) }
}

/// The allocator asks the kernel for pages of 2 MiB wherever it can, and then the first byte that a thread takes of an arena costs
/// 2 MiB: an idle server holds four times the memory. A kernel without the call gives pages as it likes.
fn no_huge_pages() {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
