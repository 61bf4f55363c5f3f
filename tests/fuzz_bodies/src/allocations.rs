//! An allocator that knows the largest single allocation: nothing a stranger says may become one above 64 MiB.

#![allow(unsafe_code, reason = "an allocator is unsafe by its signature; this one only counts and passes on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The largest single allocation that hostile input may cause, in bytes.
pub const LARGEST_MAX: usize = 64 << 20;

static LARGEST: AtomicUsize = AtomicUsize::new(0);
static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static IS_ARMED: AtomicBool = AtomicBool::new(false);

/// The system's allocator with a book beside it; to be declared `#[global_allocator]`.
#[derive(Debug)]
pub struct Guard;

/// From now on an allocation above [`LARGEST_MAX`] ends the process: a fuzzer keeps the input then.
pub fn arm() {
    IS_ARMED.store(true, Ordering::Relaxed);
}

/// Largest single allocation since the last call, in bytes.
pub fn take_largest() -> usize {
    LARGEST.swap(0, Ordering::Relaxed)
}

/// The most that was held at once since the process began, in bytes.
pub fn peak() -> usize {
    PEAK.load(Ordering::Relaxed)
}

fn taken(bytes: usize) {
    LARGEST.fetch_max(bytes, Ordering::Relaxed);
    let held = HELD.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
    PEAK.fetch_max(held, Ordering::Relaxed);
    if bytes > LARGEST_MAX && IS_ARMED.load(Ordering::Relaxed) {
        std::process::abort();
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Guard {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        taken(size);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.realloc(at, layout, size) }
    }
}
