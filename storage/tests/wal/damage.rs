//! What is read of a log that is cut, flipped, gone or not to be read in parts.

use super::{altered, append, filled, open, open_with, options, push, segments};
use kymo_storage::env::{CrashChoice, Fault, FaultFs, FaultOp, FaultPlan, Fs, MemoryFs};
use kymo_storage::wal::WalOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Of a segment: two copies of its epoch.
const HEADER_BYTES: usize = 1024;
const FRAME_HEADER_BYTES: usize = 16;

/// A log of `count` requests, one a commit, in one segment; answers that and where the frame of each request begins, and the last ends.
fn one_segment(count: i64) -> (MemoryFs, PathBuf, Vec<usize>) {
    let fs = MemoryFs::new();
    let (mut wal, ..) = open(&fs);
    let mut begins = vec![HEADER_BYTES];
    for n in 0..count {
        append(&mut wal, n).unwrap();
        begins.push(wal.live_bytes() as usize);
    }
    drop(wal);
    let path = segments(&fs).pop().unwrap();
    (fs, path, begins)
}

#[test]
fn a_cut_anywhere_keeps_what_lies_before() {
    let (fs, path, begins) = one_segment(6);
    for cut in 0..=begins[6] {
        let (_, report, seen) = open(&altered(&fs, &path, |bytes| bytes.truncate(cut)));
        let whole = begins[1..].iter().filter(|end| **end <= cut).count() as i64;
        assert_eq!(seen.requests(), (0..whole).collect::<Vec<_>>(), "cut at {cut}");
        assert!(!report.is_damaged(), "cut at {cut}: {report:?}");
        // A frame has begun when its header is whole.
        let begin = begins.iter().rfind(|begin| **begin <= cut);
        let is_torn = begin.is_some_and(|begin| cut - begin >= FRAME_HEADER_BYTES);
        assert_eq!(report.torn_tails, u64::from(is_torn), "cut at {cut}");
    }
}

/// The next start says how many there were.
#[test]
fn requests_gone_from_the_end_of_what_an_earlier_start_read_are_told() {
    for gone in 1..=5 {
        let (fs, path, begins) = one_segment(5);
        append(&mut open(&fs).0, 5).unwrap();
        let image = altered(&fs, &path, |bytes| bytes[begins[5 - gone]..].fill(0));
        let (_, report, seen) = open(&image);
        assert_eq!(seen.requests(), (0..5 - gone as i64).chain([5]).collect::<Vec<_>>());
        assert_eq!((report.lost_frames, report.is_damaged()), (gone as u64, true), "{report:?}");
    }
}

/// Those behind a damaged one are among them.
#[test]
fn requests_gone_from_behind_a_damaged_one_are_told() {
    let (fs, path, begins) = one_segment(6);
    let image = altered(&fs, &path, |bytes| bytes[begins[5] - 1] ^= 1);
    let (mut wal, report, seen) = open(&image);
    assert_eq!((report.lost_frames, seen.requests()), (1, vec![0, 1, 2, 3, 5]));
    append(&mut wal, 6).unwrap();
    drop(wal);
    let (_, report, seen) = open(&altered(&image, &path, |bytes| bytes[begins[5]..].fill(0)));
    assert_eq!((report.lost_frames, seen.requests()), (2, vec![0, 1, 2, 3, 6]));
}

/// What a power cut left of a write that nobody was told of is no damage, at no later start.
#[test]
fn a_torn_write_is_never_told_as_damage() {
    let fs = MemoryFs::new();
    let (mut wal, ..) = open(&fs);
    for n in 0..5 {
        append(&mut wal, n).unwrap();
    }
    let begin = wal.live_bytes() as usize;
    for n in 5..8 {
        push(&mut wal, n);
    }
    wal.commit().unwrap();
    drop(wal);
    // The first of three.
    let image = altered(&fs, &segments(&fs)[0], |bytes| bytes[begin + FRAME_HEADER_BYTES + 20] ^= 1);
    for start in 0..4 {
        let (mut wal, report, _) = open(&image);
        assert!(!report.is_damaged() && report.torn_frames > 0, "start {start}: {report:?}");
        append(&mut wal, 20 + start).unwrap();
    }
}

#[test]
fn a_flipped_bit_costs_at_most_one_request() {
    let fs = MemoryFs::new();
    let (mut wal, ..) = open(&fs);
    for n in 0..30 {
        append(&mut wal, n).unwrap();
    }
    wal.close().unwrap();
    let paths = segments(&fs);
    assert!(paths.len() >= 3);
    for path in &paths {
        let len = fs.map(path).unwrap().len();
        for at in (0..len).step_by(7) {
            let image = altered(&fs, path, |bytes| bytes[at] ^= 1 << (at % 8));
            let (_, report, seen) = open(&image);
            let got = seen.requests();
            assert!(got.len() >= 29 && got.is_sorted(), "flip at {at} of {}: {got:?}", path.display());
            assert_eq!(report.lost_frames, 30 - got.len() as u64, "flip at {at}: {report:?}");
            let kept = image.list(Path::new("/data/quarantine")).map_or(0, |l| l.len());
            assert_eq!(kept, usize::from(report.lost_frames > 0), "flip at {at}");
            assert_eq!(report.is_damaged(), report.lost_frames > 0);
            // A second start reports the same, and new records follow the old ones.
            let (mut wal, again, seen) = open(&image);
            assert_eq!((again.lost_frames, seen.requests()), (report.lost_frames, got));
            append(&mut wal, 77).unwrap();
            assert_eq!(open(&image).2.requests().last(), Some(&77));
        }
    }
}

#[test]
fn a_flipped_bit_takes_no_names() {
    let fs = MemoryFs::new();
    let (mut wal, ..) = open(&fs);
    let names: Vec<(u32, Vec<u8>)> = (0..40).map(|id| (id, format!("labels of {id}").into_bytes())).collect();
    // Some come first, some with a later request.
    for (n, part) in [(0, &names[..30]), (1, &names[30..])] {
        wal.push_series(part.iter().map(|(id, labels)| (*id, labels.as_slice()))).unwrap();
        append(&mut wal, n).unwrap();
    }
    wal.close().unwrap();
    let path = segments(&fs).remove(0);
    assert_eq!(open(&fs.crash_image(fs.log_len(), CrashChoice::Everything)).2.series, names, "each once");
    for at in 0..fs.map(&path).unwrap().len() {
        let (_, report, seen) = open(&altered(&fs, &path, |bytes| bytes[at] ^= 1 << (at % 8)));
        assert_eq!(seen.series, names, "flip at {at}");
        assert!(seen.samples.len() as u64 + report.lost_frames >= 2, "flip at {at}: {report:?}");
    }
}

#[test]
fn damaged_headers_and_missing_segments_are_reported() {
    let fs = filled(30);
    let paths = segments(&fs);
    let image = altered(&fs, &paths[1], |bytes| {
        bytes[20] ^= 1;
        bytes[532] ^= 1;
    });
    let (_, report, seen) = open(&image);
    assert_eq!(report.damaged_segments.len(), 1, "{report:?}");
    assert_eq!(report.lost_frames + seen.samples.len() as u64, 30);
    let image = fs.crash_image(fs.log_len(), CrashChoice::Everything);
    image.remove(&paths[1]).unwrap();
    let (_, report, seen) = open(&image);
    assert_eq!(report.missing_segments, [2]);
    assert_eq!(report.lost_frames + seen.samples.len() as u64, 30);
    assert_eq!(seen.requests().first(), Some(&0));
    assert_eq!(seen.requests().last(), Some(&29));
}

#[test]
fn a_sector_the_disk_cannot_read_costs_its_records() {
    let fs = filled(30);
    let before = open(&fs).2.samples.len();
    let plan = FaultPlan::new();
    let faulty: Arc<dyn Fs> = Arc::new(FaultFs::new(fs, plan.clone()));
    // The whole file fails once, then its first block.
    plan.add(Fault::on(FaultOp::Read).path("0000000000000002"));
    plan.add(Fault::on(FaultOp::Read).path("0000000000000002").after(1));
    let (_, report, seen) = open_with(&faulty, options(), 0);
    assert!(report.unreadable_bytes > 0 && report.is_damaged());
    assert!(seen.samples.len() < before && seen.requests().last() == Some(&29));
}

#[test]
fn what_cannot_be_read_behind_the_first_requests_is_told() {
    let memory = MemoryFs::new();
    let options = WalOptions { segment_bytes: 64 << 10, ..options() };
    let (mut wal, ..) = open_with(&(Arc::new(memory.clone()) as Arc<dyn Fs>), options.clone(), 0);
    for n in 0..30 {
        append(&mut wal, n).unwrap();
    }
    drop(wal);
    let unread = memory.map(&segments(&memory)[0]).unwrap().len() as u64 - 4096;
    let plan = FaultPlan::new();
    let faulty: Arc<dyn Fs> = Arc::new(FaultFs::new(memory, plan.clone()));
    // The file as a whole, then all of its blocks but the first: what follows looks like the end of the log.
    plan.add(Fault::on(FaultOp::Read).path("0000000000000001"));
    plan.add(Fault::on(FaultOp::Read).path("0000000000000001").after(2).forever());
    let (_, report, seen) = open_with(&faulty, options, 0);
    let read = seen.requests();
    assert!((1..29).contains(&read.len()) && read == (0..read.len() as i64).collect::<Vec<_>>(), "{read:?}");
    assert_eq!((report.unreadable_bytes, report.is_damaged()), (unread, true), "{report:?}");
}
