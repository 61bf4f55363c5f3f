//! The door to the disk: the real one and the one that fails on demand behave alike where nothing is planned.

#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use kymo_storage::env::{DiskFs, Fault, FaultFs, FaultOp, FaultPlan, Fs, MemoryFs};
use std::io::ErrorKind;
use std::path::Path;

/// What every file system does.
fn contract(fs: &dyn Fs, root: &Path) {
    let dir = root.join("data/wal");
    fs.create_dir_all(&dir).unwrap();
    let path = dir.join("a");
    let file = fs.create(&path).unwrap();
    assert_eq!(fs.create(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    file.write_all_at(b"hello", 3).unwrap();
    assert_eq!(file.len().unwrap(), 8);
    let mut buffer = [9; 8];
    file.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"\0\0\0hello");
    assert_eq!(file.read_exact_at(&mut buffer, 1).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    file.set_len(4).unwrap();
    file.sync_data().unwrap();
    assert!(fs.open(&path).unwrap().write_all_at(b"x", 0).is_err(), "opened for reading");
    fs.rename(&path, &dir.join("b")).unwrap();
    fs.sync_dir(&dir).unwrap();
    assert_eq!(fs.open(&path).unwrap_err().kind(), ErrorKind::NotFound);
    let map = fs.map(&dir.join("b")).unwrap();
    fs.open_write(&dir.join("b")).unwrap();
    fs.remove(&dir.join("b")).unwrap();
    assert_eq!(&*map, b"\0\0\0h", "a map outlives its name");
    let empty = fs.create(&dir.join("empty")).unwrap();
    assert!(empty.is_empty().unwrap());
    assert!(fs.map(&dir.join("empty")).unwrap().is_empty());
    fs.create_dir_all(&dir.join("below")).unwrap();
    assert_eq!(fs.list(&dir).unwrap(), [dir.join("below"), dir.join("empty")]);
    let space = fs.space(&dir).unwrap();
    assert!(space.free_bytes <= space.total_bytes && space.total_bytes > 0);
    let lock = fs.lock(&dir).unwrap();
    let refused = fs.lock(&dir).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    drop(lock);
    fs.lock(&dir).unwrap();
}

#[test]
fn all_file_systems_keep_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract(&DiskFs, dir.path());
    let dir = tempfile::tempdir().unwrap();
    contract(&FaultFs::new(DiskFs, FaultPlan::new()), dir.path());
    contract(&MemoryFs::new(), Path::new("/"));
    contract(&MemoryFs::unrecorded(), Path::new("/"));
}

#[test]
fn faults_come_when_planned() {
    let plan = FaultPlan::new();
    let fs = FaultFs::new(MemoryFs::new(), plan.clone());
    fs.create_dir_all(Path::new("/d")).unwrap();
    let file = fs.create(Path::new("/d/a.wal")).unwrap();
    plan.add(Fault::on(FaultOp::Write).path(".wal").after(1).short_write(2, Fault::ENOSPC));
    file.write_all_at(b"aaaa", 0).unwrap();
    let error = file.write_all_at(b"bbbb", 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    let mut buffer = [0; 4];
    file.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"bbaa");
    file.write_all_at(b"cccc", 0).unwrap();
    plan.add(Fault::on(FaultOp::Sync).forever());
    for _ in 0..2 {
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(Fault::EIO));
    }
    plan.clear();
    file.sync_data().unwrap();
    assert_eq!((plan.calls(FaultOp::Sync), plan.calls(FaultOp::Write), plan.hits()), (3, 3, 3));
}
