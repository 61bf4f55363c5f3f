//! The log cut at every byte of its last 64 KiB, and with a bit flipped in every byte.

use super::{MemoryFs, bytes_of, image, put, sampled};
use kymo_storage::Result;
use kymo_storage::env::{Fs, SimClock};
use kymo_storage::model::Metadata;
use kymo_storage::wal::{
    ExemplarRecord, HistogramsRecord, ReplayReport, ReplayVisitor, SamplesRecord, Wal, WalOptions,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOG: &str = "/data/wal";
const TAIL: usize = 64 << 10;

/// The numbers of the requests that come back.
#[derive(Default)]
struct Requests(Vec<i64>);

impl ReplayVisitor for Requests {
    fn series(&mut self, _id: u32, _labels: &[u8]) -> Result<()> {
        Ok(())
    }

    fn samples(&mut self, samples: SamplesRecord<'_>) -> Result<()> {
        let number = samples.timestamps[0];
        let sound = (0..40).map(|i| f64::from(i) + number as f64 / 7.0);
        assert!(samples.values.iter().copied().eq(sound), "request {number} is not what was written");
        self.0.push(number);
        Ok(())
    }

    fn histograms(&mut self, _histograms: HistogramsRecord<'_>) -> Result<()> {
        Ok(())
    }

    fn exemplars(&mut self, _exemplars: &[ExemplarRecord<'_>]) -> Result<()> {
        Ok(())
    }

    fn metadata(&mut self, _family: &str, _metadata: &Metadata) -> Result<()> {
        Ok(())
    }
}

fn open(fs: &MemoryFs) -> (Wal, ReplayReport, Vec<i64>) {
    let options = WalOptions {
        segment_bytes: 1 << 20,
        prepare_in_background: false,
        nonce: 3,
        ..WalOptions::default()
    };
    let mut requests = Requests::default();
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    let (wal, report) =
        Wal::open(fs, Arc::new(SimClock::new(0)), Path::new(LOG), options, 0, &mut requests).unwrap();
    (wal, report, requests.0)
}

/// A log of one segment of more than 64 KiB: its file, and where each request ends.
fn filled() -> (MemoryFs, PathBuf, Vec<usize>) {
    let fs = MemoryFs::new();
    let (mut wal, ..) = open(&fs);
    let mut ends = Vec::new();
    let ids: Vec<u32> = (0..40).collect();
    while wal.live_bytes() < TAIL as u64 + 4096 {
        let number = ends.len() as i64;
        let values: Vec<f64> = (0..40).map(|i| f64::from(i) + number as f64 / 7.0).collect();
        let timestamps = [number; 40];
        let record = SamplesRecord { ids: &ids, timestamps: &timestamps, values: &values, starts: &[] };
        wal.push_samples(record).unwrap();
        wal.commit().unwrap();
        ends.push(wal.live_bytes() as usize);
    }
    drop(wal);
    fs.settle();
    let path = fs.list(Path::new(LOG)).unwrap().remove(0);
    (fs, path, ends)
}

#[test]
fn a_log_cut_anywhere_keeps_what_lies_before() {
    let (fs, path, ends) = filled();
    let whole = bytes_of(&fs, &path);
    let last = *ends.last().unwrap();
    let mut opened = 0;
    for offset in sampled(TAIL) {
        let cut = last - offset;
        let torn = image(&fs);
        put(&torn, &path, &whole[..cut]);
        let (_, report, found) = open(&torn);
        let before = ends.iter().filter(|end| **end <= cut).count() as i64;
        assert_eq!(found, (0..before).collect::<Vec<_>>(), "cut at {cut}");
        assert!(!report.is_damaged(), "cut at {cut}: {report:?}");
        opened += 1;
    }
    println!("torn offsets={opened} opened={opened} lost_before_cut=0 invented=0");
}

#[test]
fn a_flipped_bit_of_a_log_costs_its_request() {
    let (fs, path, ends) = filled();
    let whole = bytes_of(&fs, &path);
    let last = *ends.last().unwrap();
    let (mut flips, mut lost_most) = (0, 0);
    for at in sampled(last) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let damaged = image(&fs);
        put(&damaged, &path, &bytes);
        let (_, report, found) = open(&damaged);
        let lost = ends.len() - found.len();
        assert!(lost <= 1 && found.is_sorted(), "a bit at {at} loses {lost} requests");
        // What nobody can tell from a write that was under way when the power went is the last request only.
        let is_last = lost == 1 && !found.contains(&(ends.len() as i64 - 1));
        assert!(report.lost_frames == lost as u64 || is_last, "a bit at {at}: {report:?}");
        let kept = damaged.list(Path::new("/data/quarantine")).map_or(0, |l| l.len());
        assert_eq!(kept, usize::from(report.is_damaged()), "a bit at {at}");
        lost_most = lost_most.max(lost);
        flips += 1;
    }
    println!("walflip_wb flips={flips} lost_max_requests={lost_most} silent=0");
}
