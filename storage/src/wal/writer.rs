//! `Wal`: appends groups of records, syncs, rotates, releases. Hot path.
//!
//! After a failed write the segment is cut back to the last good frame before anything else is taken; if that fails, or a
//! sync fails, the log is *poisoned*: what the kernel still holds of the file is unknown then, and asking it again would
//! be answered with an unfounded yes. A poisoned log takes nothing more until the next start.

use super::active::{Active, PREFIX_BYTES};
use super::aside;
use super::prepare::{Preparation, Prepared, is_reusable, reuse};
use super::reader::{ReplayReport, ReplayVisitor, Retired, replay};
use super::record::{self, BatchRecord, HistogramsRecord, SamplesRecord};
use super::segment::{self, Epoch};
use super::{Durability, Syncs, WalOptions};
use crate::codec::frame;
use crate::env::{Clock, Fs};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Metadata;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Series are put into records of about this many bytes, so that damage takes few of them.
const SERIES_RECORD_BYTES: usize = 256 << 10;
/// What the group buffer keeps between commits.
const BUFFER_KEPT_BYTES: usize = 16 << 20;

/// The log, open for appending. Owned by one thread.
#[derive(Debug)]
pub struct Wal {
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    /// Where segments go that could not be read back.
    quarantine: PathBuf,
    options: WalOptions,
    /// Room for a segment header, then the frames of the group.
    buffer: Vec<u8>,
    /// Where the frames of the group start.
    starts: Vec<usize>,
    active: Option<Active>,
    /// Sequences up to this one are taken.
    last_sequence: u64,
    /// Sequences up to this one may hold records; every later record lies above.
    floor: u64,
    /// The last segment with frames, and how many.
    last_used: u64,
    last_frames: u32,
    retired: BTreeMap<u64, Retired>,
    spares: Vec<PathBuf>,
    preparation: Option<Preparation>,
    poisoned: Option<String>,
    last_sync: Duration,
    syncs: Syncs,
}

impl Wal {
    /// Opens the log in `dir`, gives every record of the segments from `first_needed` on to `visitor`, and stands ready
    /// to append. A disk that cannot make the replayed records durable gives a poisoned log, which can still be read.
    ///
    /// # Errors
    /// The directory cannot be made or listed, or the visitor refuses.
    pub fn open(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: WalOptions,
        first_needed: u64,
        visitor: &mut dyn ReplayVisitor,
    ) -> Result<(Self, ReplayReport)> {
        fs.create_dir_all(dir).map_err(|e| Error::io(format!("create the log {}", dir.display()), e))?;
        let beside = dir.parent().unwrap_or(dir);
        let quarantine = options.quarantine.clone().unwrap_or_else(|| beside.join("quarantine"));
        let replayed = replay(fs.as_ref(), dir, &quarantine, first_needed, visitor)?;
        let mut wal = Self {
            last_sync: clock.monotonic(),
            fs,
            clock,
            dir: dir.to_owned(),
            quarantine,
            options,
            buffer: vec![0; segment::HEADER_BYTES],
            starts: Vec::new(),
            active: None,
            last_sequence: replayed.last_sequence,
            floor: replayed.last_sequence,
            last_used: replayed.last_used,
            last_frames: replayed.last_frames,
            retired: replayed.needed,
            spares: Vec::new(),
            preparation: None,
            poisoned: None,
            syncs: Syncs::default(),
        };
        if let Err(error) = wal.settle_replayed() {
            wal.poison(&error);
        }
        // A segment that was let go of unread may be among them.
        let kept = aside::kept(wal.fs.as_ref(), &wal.quarantine);
        for spare in replayed.spares {
            // A file that cannot be removed costs room, nothing else.
            match (&kept, segment::sequence_of(&spare)) {
                (Ok(kept), Some(sequence)) if !kept.contains(&sequence) => drop(wal.keep_or_remove(spare)),
                (Ok(_), Some(sequence)) => drop(wal.let_go(&spare, sequence)),
                _ => {}
            }
        }
        Ok((wal, replayed.report))
    }

    /// What was replayed will be answered from, so it must not vanish with the page cache.
    fn settle_replayed(&self) -> io::Result<()> {
        if let Some(beside) = self.dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            self.fs.sync_dir(beside)?;
        }
        // What nothing was read from may be no file of ours at all.
        for retired in self.retired.values().filter(|retired| retired.is_sound) {
            self.fs.open_write(&retired.path)?.sync_data()?;
        }
        self.fs.sync_dir(&self.dir)
    }

    /// Adds the creation of series to the group: ids and canonical label bytes.
    ///
    /// # Errors
    /// `LimitExceeded` if one label set is larger than a record may be; the group keeps what it had.
    pub fn push_series<'s>(&mut self, series: impl IntoIterator<Item = (u32, &'s [u8])>) -> Result<()> {
        let mut part: Vec<(u32, &[u8])> = Vec::new();
        let mut bytes = 0;
        for (id, labels) in series {
            part.push((id, labels));
            bytes += labels.len();
            if bytes >= SERIES_RECORD_BYTES {
                self.push_series_twice(&part)?;
                part.clear();
                bytes = 0;
            }
        }
        if part.is_empty() {
            return Ok(());
        }
        self.push_series_twice(&part)
    }

    /// Every later record needs the names: a copy in a frame of its own keeps them when one place is damaged.
    fn push_series_twice(&mut self, part: &[(u32, &[u8])]) -> Result<()> {
        self.push(|out| record::encode_series(part, out))?;
        let start = self.starts.last().map_or(0, |start| start + frame::HEADER_BYTES + PREFIX_BYTES);
        let copy = record::copy_of_series(self.buffer.get(start..).unwrap_or_default());
        self.push(|out| out.extend_from_slice(&copy))
    }

    /// Adds what one request stores to the group, as one record: what is recovered, or damaged, together. Nothing is added
    /// if it is empty. The columns must be of equal length.
    ///
    /// # Errors
    /// `LimitExceeded` if it is larger than a record may be; the group keeps what it had.
    pub fn push_batch(&mut self, batch: &BatchRecord<'_>) -> Result<()> {
        let (samples, histograms) = (&batch.samples, &batch.histograms);
        debug_assert!(
            samples.ids.len() == samples.timestamps.len() && samples.ids.len() == samples.values.len(),
            "the columns of a record are of equal length"
        );
        let parts = [samples.ids.len(), histograms.ids.len(), batch.exemplars.len(), batch.metadata.len()];
        if parts == [0; 4] {
            return Ok(());
        }
        let compressed = self.options.compress_samples;
        self.push(|out| record::encode_batch(batch, compressed, out))
    }

    /// Adds samples to the group, as one record.
    ///
    /// # Errors
    /// As [`Wal::push_batch`].
    pub fn push_samples(&mut self, samples: SamplesRecord<'_>) -> Result<()> {
        self.push_batch(&BatchRecord { samples, ..BatchRecord::default() })
    }

    /// Adds native histograms to the group, as one record.
    ///
    /// # Errors
    /// As [`Wal::push_batch`].
    pub fn push_histograms(&mut self, histograms: HistogramsRecord<'_>) -> Result<()> {
        self.push_batch(&BatchRecord { histograms, ..BatchRecord::default() })
    }

    /// Adds descriptions of metric families to the group, as one record.
    ///
    /// # Errors
    /// As [`Wal::push_batch`].
    pub fn push_metadata(&mut self, metadata: &[(&str, &Metadata)]) -> Result<()> {
        self.push_batch(&BatchRecord { metadata, ..BatchRecord::default() })
    }

    fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let start = frame::begin(&mut self.buffer);
        self.buffer.extend_from_slice(&[0; PREFIX_BYTES]);
        encode(&mut self.buffer);
        let body = self.buffer.len() - start - frame::HEADER_BYTES;
        if body > frame::BODY_BYTES_MAX {
            self.buffer.truncate(start);
            let limit = frame::BODY_BYTES_MAX;
            let text = format!(
                "a log record of {body} bytes is larger than the {limit} allowed; send smaller requests"
            );
            return Err(Error::new(ErrorKind::LimitExceeded, text));
        }
        self.starts.push(start);
        Ok(())
    }

    /// Forgets the group.
    pub fn discard(&mut self) {
        self.starts.clear();
        self.buffer.truncate(segment::HEADER_BYTES);
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
    }

    /// Writes the group, and syncs as the options say. The group is empty afterwards, also after an error.
    ///
    /// # Errors
    /// `Io` if the write failed: nothing of the group is in the log, and the next one may succeed. If a sync failed the
    /// log is poisoned as well, and every later commit answers `Unavailable`.
    pub fn commit(&mut self) -> Result<()> {
        let result = if self.starts.is_empty() { self.check() } else { self.write_group() };
        self.discard();
        result?;
        match self.options.durability {
            Durability::Sync => self.sync(),
            Durability::Interval(_) => self.sync_if_due(),
            Durability::Os => Ok(()),
        }
    }

    fn check(&self) -> Result<()> {
        match &self.poisoned {
            None => Ok(()),
            Some(why) => Err(Error::new(
                ErrorKind::Unavailable,
                format!("the log takes no writes until a restart: {why}"),
            )),
        }
    }

    fn write_group(&mut self) -> Result<()> {
        self.check()?;
        let group = (self.buffer.len() - segment::HEADER_BYTES) as u64;
        let limit = self.options.segment_bytes;
        let fits = |active: &Active| active.frames == 0 || active.offset.saturating_add(group) <= limit;
        if !self.active.as_ref().is_some_and(fits) {
            self.rotate()?;
        }
        let Some(active) = self.active.as_mut() else {
            return Err(Error::internal("a rotated log has a segment"));
        };
        active.seal(&mut self.buffer, &self.starts)?;
        let first = active.offset == 0;
        if first && let Some(room) = self.buffer.first_chunk_mut::<{ segment::HEADER_BYTES }>() {
            *room = active.epoch.encode();
        }
        let skipped = if first { 0 } else { segment::HEADER_BYTES };
        let bytes = self.buffer.get(skipped..).unwrap_or_default();
        let written = active.file.write_all_at(bytes, active.offset);
        let end = active.offset + bytes.len() as u64;
        if let Err(error) = written {
            let failed =
                format!("write {} bytes to {} at {}", bytes.len(), active.path.display(), active.offset);
            if let Err(again) = active.cut_back(end) {
                let why = format!("{failed} failed ({error}), and it could not be cut back: {again}");
                self.poison(&why);
            }
            return Err(Error::io(failed, error));
        }
        active.offset = end;
        active.allocated = active.allocated.max(end);
        active.frames += self.starts.len() as u32;
        self.prepare_next();
        Ok(())
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    /// `Io` if the sync failed: the log is poisoned then. `Unavailable` if it was before.
    pub fn sync(&mut self) -> Result<()> {
        self.check()?;
        self.last_sync = self.clock.monotonic();
        let Some(active) = self.active.as_mut().filter(|a| a.durable_frames < a.frames) else {
            return Ok(());
        };
        let synced = active.file.sync_data();
        self.syncs.count += 1;
        self.syncs.time += self.clock.monotonic().saturating_sub(self.last_sync);
        match synced {
            Ok(()) => {
                active.durable_frames = active.frames;
                Ok(())
            }
            Err(error) => {
                let attempt = format!("sync {}", active.path.display());
                self.poison(&format!("{attempt} failed: {error}"));
                Err(Error::io(attempt, error))
            }
        }
    }

    /// What syncing took since this was asked last.
    pub fn take_syncs(&mut self) -> Syncs {
        std::mem::take(&mut self.syncs)
    }

    /// With [`Durability::Interval`], syncs if the interval is over; to be called also when nothing is appended.
    ///
    /// # Errors
    /// Like [`Wal::sync`].
    pub fn sync_if_due(&mut self) -> Result<()> {
        match self.sync_due_in() {
            Some(Duration::ZERO) => self.sync(),
            _ => Ok(()),
        }
    }

    /// With [`Durability::Interval`] and something to sync: how long until it is due.
    pub fn sync_due_in(&self) -> Option<Duration> {
        let Durability::Interval(interval) = self.options.durability else { return None };
        self.active.as_ref().filter(|a| a.durable_frames < a.frames)?;
        let since = self.clock.monotonic().saturating_sub(self.last_sync);
        Some(interval.saturating_sub(since))
    }

    /// Why the log takes no more writes, if so.
    pub fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    fn poison(&mut self, why: &impl ToString) {
        let why = why.to_string();
        tracing::error!(%why, "the log is poisoned");
        self.poisoned.get_or_insert(why);
    }

    /// Ends the present segment: every record so far lies in a segment below the answer, every later one does not.
    ///
    /// # Errors
    /// Like [`Wal::sync`], except with [`Durability::Os`].
    pub fn cut(&mut self) -> Result<u64> {
        match &self.active {
            Some(active) if active.frames == 0 => Ok(active.sequence),
            Some(_) => {
                self.retire()?;
                Ok(self.floor + 1)
            }
            None => Ok(self.floor + 1),
        }
    }

    fn let_go(&self, path: &Path, sequence: u64) -> io::Result<()> {
        aside::let_go(self.fs.as_ref(), path, &self.quarantine, sequence)
    }

    /// Has those of the segments that were replayed kept in quarantine: not all of their records could be used.
    pub fn keep_replayed(&mut self, sequences: &[u64]) {
        let used = self.retired.iter_mut().filter(|(_, retired)| !retired.is_unread);
        for (sequence, retired) in used.filter(|(sequence, _)| sequences.contains(sequence)) {
            retired.is_unread = aside::keep(self.fs.as_ref(), &retired.path, &self.quarantine, *sequence);
        }
    }

    /// Lets go of all segments below `boundary`: their files are kept to be written again, or removed; those that were not read go to
    /// quarantine.
    ///
    /// # Errors
    /// A file cannot be removed; it is tried again next time.
    pub fn release_before(&mut self, boundary: u64) -> Result<()> {
        let kept = self.retired.split_off(&boundary);
        let released = std::mem::replace(&mut self.retired, kept);
        let mut result = Ok(());
        for (sequence, retired) in released {
            let released = if retired.is_unread {
                self.let_go(&retired.path, sequence)
            } else {
                self.keep_or_remove(retired.path.clone())
            };
            if let Err(error) = released {
                if error.kind() == io::ErrorKind::IsADirectory {
                    // It was never ours, and is left to whoever made it.
                    continue;
                }
                let attempt = format!("remove the log segment {}", retired.path.display());
                result = Err(Error::io(attempt, error));
                self.retired.insert(sequence, retired);
            }
        }
        result
    }

    /// Removes the files kept to be written again; for a full disk.
    pub fn drop_spares(&mut self) {
        for spare in std::mem::take(&mut self.spares) {
            if self.fs.remove(&spare).is_err() {
                self.spares.push(spare);
            }
        }
    }

    fn keep_or_remove(&mut self, path: PathBuf) -> io::Result<()> {
        let bytes_max = self.options.segment_bytes.saturating_mul(2);
        if self.spares.len() < self.options.spare_segments && is_reusable(self.fs.as_ref(), &path, bytes_max)
        {
            self.spares.push(path);
            return Ok(());
        }
        self.fs.remove(&path)
    }

    /// Bytes of records in segments that are still needed.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes_from(0)
    }

    /// As [`Wal::live_bytes`], of the segments from `sequence` on.
    pub fn live_bytes_from(&self, sequence: u64) -> u64 {
        let retired: u64 = self.retired.range(sequence..).map(|(_, r)| r.bytes).sum();
        retired + self.active.as_ref().map_or(0, |a| a.offset)
    }

    /// Whether any segment from `sequence` on holds records.
    pub fn has_records_from(&self, sequence: u64) -> bool {
        self.active.as_ref().is_some_and(|a| a.frames > 0 && a.sequence >= sequence)
            || self.retired.range(sequence..).any(|(_, r)| r.bytes > segment::HEADER_BYTES as u64)
    }

    /// The sequence of the oldest segment that is still needed.
    pub fn first_sequence(&self) -> u64 {
        let active = self.active.as_ref().map_or(self.floor + 1, |a| a.sequence);
        self.retired.keys().next().copied().unwrap_or(active)
    }

    /// Syncs, notes that the end is in order, waits for the thread that prepares segments, and removes files that hold nothing.
    ///
    /// # Errors
    /// Like [`Wal::commit`].
    pub fn close(mut self) -> Result<()> {
        self.discard();
        let closed = self.close_active();
        if let Some(preparation) = self.preparation.take() {
            let path = segment::path_of(&self.dir, preparation.sequence);
            if preparation.join().is_ok() {
                self.spares.push(path);
            }
        }
        self.drop_spares();
        closed
    }

    fn close_active(&mut self) -> Result<()> {
        self.check()?;
        if self.active.as_ref().is_none_or(|a| a.frames == 0) {
            return Ok(());
        }
        self.push(record::encode_end)?;
        self.commit()?;
        self.sync()
    }

    /// The present segment takes no more frames.
    fn retire(&mut self) -> Result<()> {
        if self.options.durability != Durability::Os {
            self.sync()?;
        }
        let Some(active) = self.active.take() else { return Ok(()) };
        self.floor = active.sequence;
        if active.frames > 0 {
            (self.last_used, self.last_frames) = (active.sequence, active.frames);
        }
        self.retired.insert(active.sequence, Retired::new(active.path, active.offset, true));
        Ok(())
    }

    fn rotate(&mut self) -> Result<()> {
        self.retire()?;
        let ready = self.take_prepared();
        let prepared = match ready {
            Some(prepared) => prepared,
            None => self.make_segment()?,
        };
        let sequence = prepared.sequence;
        let epoch = Epoch {
            durability: self.options.durability.into(),
            uuid: self.uuid(sequence),
            sequence,
            previous: self.last_used,
            previous_frames: self.last_frames,
        };
        self.active = Some(Active {
            sequence,
            path: segment::path_of(&self.dir, sequence),
            file: prepared.file,
            seed: epoch.seed(),
            epoch,
            offset: 0,
            allocated: prepared.allocated,
            frames: 0,
            durable_frames: 0,
        });
        Ok(())
    }

    /// Has the next segment made when the present one is half full: a log that stays small takes no room for it.
    fn prepare_next(&mut self) {
        let is_half_full = self.active.as_ref().is_some_and(|a| a.offset >= self.options.segment_bytes / 2);
        if is_half_full
            && self.options.prepare_in_background
            && self.spares.is_empty()
            && self.preparation.is_none()
        {
            let sequence = self.next_sequence();
            let path = segment::path_of(&self.dir, sequence);
            let (fs, dir, bytes) = (Arc::clone(&self.fs), self.dir.clone(), self.options.segment_bytes);
            self.preparation = Preparation::start(fs, dir, path, sequence, bytes);
        }
    }

    fn next_sequence(&mut self) -> u64 {
        self.last_sequence += 1;
        self.last_sequence
    }

    /// Unlike that of any other segment: made of the store, the name and the time.
    fn uuid(&self, sequence: u64) -> [u8; 16] {
        let mut identity = [0; 32];
        identity[..8].copy_from_slice(&self.options.nonce.to_le_bytes());
        identity[8..16].copy_from_slice(&sequence.to_le_bytes());
        identity[16..24].copy_from_slice(&self.clock.now_ms().to_le_bytes());
        identity[24..].copy_from_slice(&(self.clock.monotonic().as_nanos() as u64).to_le_bytes());
        xxhash_rust::xxh3::xxh3_128(&identity).to_le_bytes()
    }

    /// The segment the background made, if it is ready and not too late: sequences only grow.
    fn take_prepared(&mut self) -> Option<Prepared> {
        let preparation = self.preparation.take_if(|p| p.is_finished())?;
        let path = segment::path_of(&self.dir, preparation.sequence);
        match preparation.join() {
            Ok(prepared) if prepared.sequence > self.floor => Some(prepared),
            Ok(_) => {
                // Overtaken: it becomes a spare, and what cannot even be removed is one to the next start.
                let _ = self.keep_or_remove(path);
                None
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "no log segment was prepared");
                None
            }
        }
    }

    /// A segment out of a spare one, or a new one that grows as it is written.
    fn make_segment(&mut self) -> Result<Prepared> {
        while let Some(spare) = self.spares.pop() {
            let sequence = self.next_sequence();
            match reuse(self.fs.as_ref(), &self.dir, &spare, sequence) {
                Ok(prepared) => return Ok(prepared),
                Err(error) => {
                    tracing::warn!(path = %spare.display(), %error, "a log segment cannot be used again");
                }
            }
        }
        let sequence = self.next_sequence();
        let path = segment::path_of(&self.dir, sequence);
        let made = self.fs.create(&path).and_then(|file| {
            self.fs.sync_dir(&self.dir)?;
            Ok(Prepared { sequence, file, allocated: 0 })
        });
        made.map_err(|error| {
            // Whatever is left of it is an unused segment to the next start.
            let _ = self.fs.remove(&path);
            Error::io(format!("create the log segment {}", path.display()), error)
        })
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        if let Some(preparation) = self.preparation.take() {
            // Its files belong to the directory's lock, which may be given up next.
            let _ = preparation.join();
        }
    }
}
