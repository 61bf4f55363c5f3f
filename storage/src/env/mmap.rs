//! `Mapped`: the bytes of a sealed file, mapped or in memory. The only unsafe code of the crate.

#![allow(
    unsafe_code,
    reason = "a map of a file is unsafe by nature; this is the one place of the crate that makes any"
)]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

/// The bytes of a sealed file, read-only; cheap to clone. The bytes stay valid after the file is removed.
#[derive(Clone)]
pub struct Mapped(Source);

#[derive(Clone)]
enum Source {
    Map(Arc<memmap2::Mmap>),
    Bytes(Arc<Vec<u8>>),
}

impl Mapped {
    /// Bytes that are already in memory.
    pub fn from_bytes(bytes: Arc<Vec<u8>>) -> Self {
        Self(Source::Bytes(bytes))
    }

    /// Maps a whole file for reading.
    ///
    /// # Errors
    /// The operating system refuses the mapping.
    pub(super) fn from_file(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self::from_bytes(Arc::default()));
        }
        // SAFETY: the map is read-only, and only sealed files are mapped: `Fs::map` asks for files that nobody writes or
        // truncates again (they are only ever replaced by rename or unlinked, which leaves the mapped inode alone), and
        // the data directory is locked against other processes of ours.
        let map = unsafe { memmap2::Mmap::map(file) }?;
        Ok(Self(Source::Map(Arc::new(map))))
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Map(map) => map,
            Source::Bytes(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapped({} bytes)", self.len())
    }
}
