//! A fleet of exporters made of captured scrapes: real names, labels and values, repeated per instance with a phase shift.
//!
//! A capture is a list of series (`NAME.series.zst`, one a line in Prometheus' notation) and of frames (`NAME.bin.zst`:
//! `i64 t_ms, u32 n`, then `n` times `u32 series, f64 value`, little endian), one frame a second. A fleet lays the frames
//! on a longer interval. Counters go on growing where the capture was restarted or begins again, so no value sequence
//! repeats within a series that does change.

use crate::load::Load;
use crate::promqltest::notation::parse_row;
use crate::remote_write::label_bytes;
use kymo_storage::model::stale_nan;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// Series and frames of one exporter.
#[derive(Debug)]
pub struct Capture {
    /// The exporter's name.
    pub name: String,
    /// Sorted labels of each series.
    pub series: Vec<Vec<(String, String)>>,
    /// Time in milliseconds, and series numbers with their values.
    pub frames: Vec<(i64, Vec<(u32, f64)>)>,
}

fn decompress(path: &Path) -> io::Result<Vec<u8>> {
    let mut decoder = zstd::stream::read::Decoder::new(File::open(path)?)?;
    decoder.window_log_max(27)?;
    let mut bytes = Vec::new();
    decoder.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> io::Result<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
    *bytes = rest;
    Ok(*head)
}

impl Capture {
    /// Reads the two files of `name` in `dir`.
    ///
    /// # Errors
    /// A file is not there or malformed.
    pub fn read(dir: &Path, name: &str) -> io::Result<Self> {
        let bad = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let text = String::from_utf8(decompress(&dir.join(format!("{name}.series.zst")))?)
            .map_err(|e| bad(e.to_string()))?;
        let mut series = Vec::new();
        for line in text.lines() {
            series.push(parse_row(line).map_err(bad)?.labels.into_iter().collect());
        }
        let bytes = decompress(&dir.join(format!("{name}.bin.zst")))?;
        let mut rest = &bytes[..];
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let time = i64::from_le_bytes(take(&mut rest)?);
            let count = u32::from_le_bytes(take(&mut rest)?);
            let mut samples = Vec::new();
            for _ in 0..count {
                let number = u32::from_le_bytes(take(&mut rest)?);
                if number as usize >= series.len() {
                    return Err(bad(format!("{name}: no series {number}")));
                }
                samples.push((number, f64::from_le_bytes(take(&mut rest)?)));
            }
            frames.push((time, samples));
        }
        Ok(Self { name: name.to_owned(), series, frames })
    }

    /// The same shape from the seeded generator, where there are no captures.
    pub fn synthetic(name: &str, seed: u64, series: usize, frames: usize) -> Self {
        let mut load = Load::new(seed, series);
        let labels = |s: &crate::load::Series| {
            s.labels.iter().filter(|l| l.0 != "instance" && l.0 != "job").cloned().collect()
        };
        let names = load.series.iter().map(labels).collect();
        let frame = |i: usize| {
            let values = load.series.iter_mut().enumerate().map(|(n, s)| (n as u32, s.next_value()));
            (i as i64 * 1000, values.collect())
        };
        Self { name: name.to_owned(), series: names, frames: (0..frames).map(frame).collect() }
    }
}

/// One instance of a fleet.
#[derive(Debug)]
pub struct Member {
    capture: Arc<Capture>,
    /// The protobuf of each series' labels.
    pub labels: Vec<Vec<u8>>,
    first_frame: usize,
    offset_ms: i64,
    counter: Vec<bool>,
    raw: Vec<f64>,
    shown: Vec<f64>,
    present: Vec<bool>,
}

impl Member {
    /// Instance `number` of a fleet of `of`, scraped every `interval_ms` at a moment of its own.
    pub fn new(capture: &Arc<Capture>, number: usize, of: usize, interval_ms: i64) -> Self {
        let count = capture.series.len();
        let more = [
            ("cluster".to_owned(), "eu-west-1".to_owned()),
            ("instance".to_owned(), format!("10.1.{}.{}:9256", number / 250, number % 250)),
            ("job".to_owned(), capture.name.clone()),
            ("zone".to_owned(), format!("eu-west-1{}", ["a", "b", "c"][number % 3])),
        ];
        let label = |series: &Vec<(String, String)>| {
            let mut all = series.clone();
            all.extend_from_slice(&more);
            all.sort();
            label_bytes(&all)
        };
        let is_counter = |series: &Vec<(String, String)>| {
            let name = series.iter().find(|l| l.0 == "__name__").map_or("", |l| l.1.as_str());
            ["_total", "_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end))
        };
        Self {
            labels: capture.series.iter().map(label).collect(),
            counter: capture.series.iter().map(is_counter).collect(),
            first_frame: capture.frames.len() * number / of.max(1),
            offset_ms: (number as i64 * 7919) % interval_ms,
            raw: vec![f64::NAN; count],
            shown: vec![0.0; count],
            present: vec![false; count],
            capture: Arc::clone(capture),
        }
    }

    /// The scrape of step `step`: its time after `base_ms` and what is sent, staleness markers of series that went
    /// among it. Steps must be asked for in order.
    pub fn scrape(&mut self, step: usize, interval_ms: i64) -> (i64, Vec<(u32, f64)>) {
        let capture = Arc::clone(&self.capture);
        let (time, samples) = &capture.frames[(self.first_frame + step) % capture.frames.len()];
        let jitter = (time + 500).rem_euclid(1000) - 500;
        let timestamp = step as i64 * interval_ms + self.offset_ms + jitter;
        let mut out = Vec::with_capacity(samples.len());
        let mut now = vec![false; self.present.len()];
        for (number, value) in samples {
            let i = *number as usize;
            now[i] = true;
            if self.counter[i] {
                let before = self.raw[i];
                let grown = if before.is_nan() || *value < before { *value } else { value - before };
                self.shown[i] += grown;
                self.raw[i] = *value;
                // Adding increments rounds; a counter that stands still must stand still to the last bit.
                if self.shown[i] == grown {
                    self.shown[i] = *value;
                }
                out.push((*number, self.shown[i]));
            } else {
                out.push((*number, *value));
            }
        }
        for (i, was) in self.present.iter().enumerate() {
            if *was && !now[i] {
                out.push((i as u32, stale_nan()));
            }
        }
        self.present = now;
        (timestamp, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_never_go_back_and_lost_series_are_marked() {
        let series = |n: &str| vec![("__name__".to_owned(), n.to_owned())];
        let frames =
            vec![(1000, vec![(0, 5.0), (1, 1.0)]), (2003, vec![(0, 7.0), (1, 0.5)]), (2999, vec![(0, 1.0)])];
        let capture =
            Arc::new(Capture { name: "x".into(), series: vec![series("a_total"), series("g")], frames });
        let mut member = Member::new(&capture, 0, 2, 15_000);
        let values = |s: &[(u32, f64)]| -> Vec<f64> { s.iter().map(|s| s.1).collect() };
        let (time, samples) = member.scrape(0, 15_000);
        assert_eq!((time, values(&samples)), (0, vec![5.0, 1.0]));
        let (time, samples) = member.scrape(1, 15_000);
        assert_eq!((time, values(&samples)), (15_003, vec![7.0, 0.5]));
        let (time, samples) = member.scrape(2, 15_000);
        assert_eq!((time, samples[0]), (29_999, (0, 8.0)));
        assert!(kymo_storage::model::is_stale(samples[1].1));
        assert_eq!(values(&member.scrape(3, 15_000).1), [12.0, 1.0]);
    }
}
