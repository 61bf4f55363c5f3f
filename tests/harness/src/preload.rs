//! Small libraries, compiled here, that a process' dynamic linker puts before the C library.

use crate::process::find_program;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `source` as `name.so` in `dir`.
///
/// # Errors
/// There is no C compiler, or it refuses.
pub(crate) fn compile(dir: &Path, name: &str, source: &str) -> Result<PathBuf, String> {
    let compiler = find_program("cc").ok_or("cc is not installed")?;
    let (text, library) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.so")));
    fs::write(&text, source).map_err(|e| e.to_string())?;
    let mut command = Command::new(compiler);
    command.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &text]);
    let output = command.output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(library);
    }
    Err(format!("cc: {}", String::from_utf8_lossy(&output.stderr)))
}
