//! Files of zeros: room that is taken before it is needed.

use super::{File, Fs};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How many bytes one write lays down.
const CHUNK_BYTES: usize = 1 << 20;

/// Makes a new file of `bytes` zeros in the directory `dir`, durable with its name. What cannot be finished is removed again.
///
/// # Errors
/// There is such a file already, or the disk refuses, for example because it is full.
pub(crate) fn lay_down_zeros(fs: &dyn Fs, dir: &Path, path: &Path, bytes: u64) -> io::Result<Arc<dyn File>> {
    let file = fs.create(path)?;
    let fill = || {
        let zeros = vec![0; CHUNK_BYTES];
        let mut at = 0;
        while at < bytes {
            let len = usize::try_from(bytes - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            file.write_all_at(zeros.get(..len).unwrap_or_default(), at)?;
            at += len as u64;
        }
        file.sync_data()?;
        fs.sync_dir(dir)
    };
    match fill() {
        Ok(()) => Ok(file),
        Err(error) => {
            // The disk may be full: give back what was taken. A file that stays is seen to at the next start.
            let _ = fs.remove(path);
            Err(error)
        }
    }
}
