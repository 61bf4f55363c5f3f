//! A disk of our own: an ext4 file system in a file, whose power can be cut. Needs root, a loop device and `python3`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Asks the file system to stop at once, with nothing more written (`FS_IOC_SHUTDOWN` without a flush of its journal): what was
/// not synced is gone. Prints the instant before. There is no program in Debian's base system that does it to ext4.
const CUT: &str = "import fcntl,os,struct,sys,time
disk = os.open(sys.argv[1], os.O_RDONLY)
before = time.time_ns()
fcntl.ioctl(disk, 0x8004587D, struct.pack('I', 2))
print(before)";

/// The file system; unmounted and gone when dropped.
#[derive(Debug)]
pub struct LoopDisk {
    image: PathBuf,
    mount: PathBuf,
    mounted: bool,
}

impl LoopDisk {
    /// Makes and mounts one of `bytes` in `dir`.
    ///
    /// # Errors
    /// What is missing: rights, a loop device, a program.
    pub fn new(dir: &Path, bytes: u64) -> io::Result<Self> {
        let (image, mount) = (dir.join("disk.img"), dir.join("disk"));
        File::create(&image)?.set_len(bytes)?;
        std::fs::create_dir_all(&mount)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let mut disk = Self { image, mount, mounted: false };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Cuts the power: from now on every call on it fails, and what was not synced is lost. Answers the last instant with power.
    ///
    /// What is answered later, no machine without power would have answered. It may be false: a sync that is under way when ext4 is
    /// shut down can succeed although the blocks it wrote are never entered into their file (the entering fails, and is not told).
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn cut(&self) -> io::Result<SystemTime> {
        let said = run(Command::new("python3").args(["-c", CUT]).arg(&self.mount))?;
        let nanos = said.trim().parse().map_err(|e| io::Error::other(format!("python3: {said:?}: {e}")))?;
        Ok(UNIX_EPOCH + Duration::from_nanos(nanos))
    }

    /// Power is back: mounts it anew, which replays its journal. No process may have a file of it open.
    ///
    /// # Errors
    /// A file is in use, or the kernel refuses.
    pub fn restore(&mut self) -> io::Result<()> {
        self.unmount()?;
        self.mount()
    }

    fn mount(&mut self) -> io::Result<()> {
        run(Command::new("mount").args(["-o", "loop"]).args([&self.image, &self.mount]))?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> io::Result<()> {
        run(Command::new("umount").arg(&self.mount))?;
        self.mounted = false;
        Ok(())
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = self.unmount();
        }
    }
}

/// What it prints.
fn run(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{}: {said}", command.get_program().display())))
}
