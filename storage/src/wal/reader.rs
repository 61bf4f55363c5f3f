//! Replay: the records of all needed segments, in order, around whatever is damaged.
//!
//! Frames are numbered within a segment, and each says how many frames before it were durable when it was written. So a
//! gap is told apart: frames that were durable and are gone are *lost* (reported, the segment is copied to quarantine);
//! frames that were still on their way when the power went are *torn* (normal: nobody was told they were stored).

use super::aside;
use super::record::{self, ExemplarRecord, HistogramsRecord, Record, SamplesRecord, Scratch};
use super::segment::{self, DurabilityKind, Epoch, Header};
use crate::codec::frame::{FrameReader, Piece};
use crate::codec::varint::Cursor;
use crate::env::Fs;
use crate::error::{Error, Result};
use crate::model::Metadata;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Takes what a replay finds. An error of the visitor ends the replay.
pub trait ReplayVisitor {
    /// The frame at byte `offset` of segment `segment` is read now.
    fn frame(&mut self, segment: u64, offset: u64) {
        let _ = (segment, offset);
    }

    /// The segment `current` of `first..=last` is read now.
    fn segment(&mut self, first: u64, last: u64, current: u64) {
        let _ = (first, last, current);
    }

    /// Whether the frames from here on lie behind others of the same unsynced write that did not reach the disk: nobody was promised
    /// anything of them, and what they need may be among what is lost.
    fn torn(&mut self, is_torn: bool) {
        let _ = is_torn;
    }

    /// A series was created.
    ///
    /// # Errors
    /// Ends the replay.
    fn series(&mut self, id: u32, labels: &[u8]) -> Result<()>;

    /// Samples were accepted. Their series may be unknown if the record that named them is lost.
    ///
    /// # Errors
    /// Ends the replay.
    fn samples(&mut self, samples: SamplesRecord<'_>) -> Result<()>;

    /// Native histograms were accepted. What holds for samples holds for them.
    ///
    /// # Errors
    /// Ends the replay.
    fn histograms(&mut self, histograms: HistogramsRecord<'_>) -> Result<()>;

    /// Exemplars were accepted. What holds for samples holds for them.
    ///
    /// # Errors
    /// Ends the replay.
    fn exemplars(&mut self, exemplars: &[ExemplarRecord<'_>]) -> Result<()>;

    /// A metric family was described.
    ///
    /// # Errors
    /// Ends the replay.
    fn metadata(&mut self, family: &str, metadata: &Metadata) -> Result<()>;
}

/// What a replay met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// Segments read.
    pub segments: u64,
    /// Frames that were whole.
    pub frames: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Samples in them.
    pub samples: u64,
    /// Series in them.
    pub series: u64,
    /// Frames that were durable and are damaged or gone.
    pub lost_frames: u64,
    /// Bytes that took their place.
    pub lost_bytes: u64,
    /// Frames known to have been on their way at the crash.
    pub torn_frames: u64,
    /// Segments that end in a torn frame; normal after a crash.
    pub torn_tails: u64,
    /// Frames that are whole but hold no record this version knows; they count as damage.
    pub undecodable_frames: u64,
    /// Bytes the disk refused to read.
    pub unreadable_bytes: u64,
    /// Segments with damage inside, by sequence; copies are in quarantine.
    pub damaged_segments: Vec<u64>,
    /// Segments that a later one names and that are not there.
    pub missing_segments: Vec<u64>,
    /// Where the damage inside of segments is; of very much damage the first places.
    pub places: Vec<DamagedPlace>,
    /// Whether the log was closed in order.
    pub clean_end: bool,
}

/// So many places of a log are named.
const PLACES_MAX: usize = 1000;

/// Where a segment of the log is damaged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedPlace {
    /// The sequence of the segment.
    pub segment: u64,
    /// The byte at which the damage begins.
    pub offset: u64,
    /// What it is.
    pub kind: LogDamage,
}

/// What is wrong at a place of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogDamage {
    /// The header of the segment is not sound.
    Header,
    /// So many frames that were durable are not there.
    Lost(u64),
    /// The frame is whole, but holds no record that this version knows.
    Undecodable,
    /// The disk refuses so many bytes, not all of them here.
    Unreadable(u64),
}

impl fmt::Display for LogDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => write!(f, "the header of the segment is damaged: what follows cannot be read"),
            Self::Lost(frames) => {
                write!(f, "{frames} acknowledged records are lost: their bytes are damaged")
            }
            Self::Undecodable => write!(f, "the record passes its checksum and cannot be decoded"),
            Self::Unreadable(bytes) => write!(f, "the disk refuses {bytes} bytes from here on"),
        }
    }
}

impl ReplayReport {
    /// Whether anything that was durable is missing.
    pub fn is_damaged(&self) -> bool {
        self.lost_frames > 0
            || self.undecodable_frames > 0
            || self.unreadable_bytes > 0
            || !self.damaged_segments.is_empty()
            || !self.missing_segments.is_empty()
    }
}

/// A segment that is still needed, and how many bytes of it are used.
#[derive(Debug, Clone)]
pub(super) struct Retired {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// Whether its header was whole, so that it may hold records.
    pub(super) is_sound: bool,
    /// Whether something of it was not read: at its release it goes to quarantine.
    pub(super) is_unread: bool,
}

impl Retired {
    pub(super) fn new(path: PathBuf, bytes: u64, is_sound: bool) -> Self {
        Self { path, bytes, is_sound, is_unread: false }
    }
}

/// What the writer goes on from.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) report: ReplayReport,
    pub(super) needed: BTreeMap<u64, Retired>,
    pub(super) spares: Vec<PathBuf>,
    /// The highest sequence ever used as a name.
    pub(super) last_sequence: u64,
    /// The last segment with frames, and how many from its front on are all there, but for damage.
    pub(super) last_used: u64,
    pub(super) last_frames: u32,
}

/// Reads every segment of `dir` from `first_needed` on. Damage never ends it; the visitor and a disk that cannot even
/// list the directory do.
pub(super) fn replay(
    fs: &dyn Fs,
    dir: &Path,
    quarantine: &Path,
    first_needed: u64,
    visitor: &mut dyn ReplayVisitor,
) -> Result<Replayed> {
    let paths = fs.list(dir).map_err(|e| Error::io(format!("list the log {}", dir.display()), e))?;
    let mut segments: Vec<(u64, PathBuf)> =
        paths.into_iter().filter_map(|p| Some((segment::sequence_of(&p)?, p))).collect();
    segments.sort_unstable();
    let last_sequence = segments.last().map_or(0, |s| s.0).max(first_needed.saturating_sub(1));
    let out = Replayed { last_sequence, ..Replayed::default() };
    let mut replay = Replay {
        kept: aside::kept(fs, quarantine).unwrap_or_default(),
        fs,
        quarantine,
        first_needed,
        visitor,
        out,
        pending: None,
        buffer: Vec::new(),
        scratch: Scratch::default(),
    };
    let first = segments.iter().map(|s| s.0).find(|s| *s >= first_needed).unwrap_or(last_sequence);
    for (sequence, path) in segments {
        if sequence >= first_needed {
            replay.visitor.segment(first, last_sequence, sequence);
        }
        if sequence < first_needed {
            replay.out.spares.push(path);
        } else {
            replay.segment(sequence, path)?;
        }
    }
    if let Some(pending) = replay.pending.take() {
        replay.settle(&pending);
    }
    Ok(replay.out)
}

/// Reads every segment of `dir` from `first_needed` on, as [`replay`] does, and only reports.
///
/// # Errors
/// As [`replay`].
pub(crate) fn check(
    fs: &dyn Fs,
    dir: &Path,
    first_needed: u64,
    visitor: &mut dyn ReplayVisitor,
) -> Result<ReplayReport> {
    // The copies that damage asks for are refused by the file system of those who only look.
    Ok(replay(fs, dir, &dir.join("quarantine"), first_needed, visitor)?.report)
}

/// A segment that was read and is not yet judged: the header of the next one says how long it was.
struct Pending {
    sequence: u64,
    path: PathBuf,
    /// The number after the highest frame found.
    expected: u32,
    /// Frames `[from, to)` that were not found, and where they should begin.
    gaps: Vec<(u32, u32, u64)>,
    /// How many frames are known to have been durable.
    durable: u32,
    /// Behind the last whole frame.
    end: u64,
    damaged_bytes: u64,
    /// Where whole frames lie that hold no record.
    undecodable: Vec<u64>,
    unreadable: Unreadable,
    header_damaged: bool,
}

/// Bytes that the disk refuses.
#[derive(Debug, Clone, Copy, Default)]
struct Unreadable {
    bytes: u64,
    /// Where the first of them lies.
    first: u64,
}

struct Replay<'a> {
    fs: &'a dyn Fs,
    quarantine: &'a Path,
    /// The segments that an earlier start could not read.
    kept: Vec<u64>,
    first_needed: u64,
    visitor: &'a mut dyn ReplayVisitor,
    out: Replayed,
    pending: Option<Pending>,
    buffer: Vec<u8>,
    scratch: Scratch,
}

impl Replay<'_> {
    fn segment(&mut self, sequence: u64, path: PathBuf) -> Result<()> {
        let mut bytes = std::mem::take(&mut self.buffer);
        let unreadable = read_file(self.fs, &path, &mut bytes)?;
        match segment::read_header(&bytes, sequence) {
            Header::Unused if unreadable.bytes == 0 => {
                self.withdraw(sequence);
                self.out.spares.push(path);
            }
            Header::Ours(epoch) => {
                self.judge_previous(&epoch);
                let mut pending = Pending { unreadable, ..Pending::new(sequence, path) };
                let end = self.frames(&epoch, &bytes, &mut pending)?;
                let used = Retired::new(pending.path.clone(), end as u64, true);
                self.out.needed.insert(sequence, used);
                self.pending = Some(pending);
            }
            Header::Damaged | Header::Unused => {
                if let Some(before) = self.pending.take() {
                    self.settle(&before);
                }
                let used = Retired::new(path.clone(), bytes.len() as u64, false);
                self.out.needed.insert(sequence, used);
                let pending = Pending::new(sequence, path);
                self.pending = Some(Pending { unreadable, header_damaged: true, ..pending });
            }
        }
        self.buffer = bytes;
        Ok(())
    }

    /// With the header of the next segment in hand, says what is missing before it.
    fn judge_previous(&mut self, epoch: &Epoch) {
        let named = epoch.previous;
        match self.pending.take() {
            Some(mut before) if before.sequence == named => {
                before.durable = before.durable.max(epoch.previous_frames);
                if before.expected < epoch.previous_frames {
                    before.gaps.push((before.expected, epoch.previous_frames, before.end));
                }
                self.settle(&before);
            }
            before => {
                let seen = before.as_ref().map_or(0, |b| b.sequence);
                if let Some(before) = before {
                    self.settle(&before);
                }
                if named > seen && named >= self.first_needed && epoch.previous_frames > 0 {
                    self.out.report.missing_segments.push(named);
                    self.out.report.lost_frames += u64::from(epoch.previous_frames);
                }
            }
        }
    }

    /// Gives the records of a segment to the visitor; answers where the last whole frame ends.
    fn frames(&mut self, epoch: &Epoch, bytes: &[u8], pending: &mut Pending) -> Result<usize> {
        self.out.report.segments += 1;
        self.out.report.clean_end = false;
        let mut end = segment::HEADER_BYTES;
        let mut tear = None;
        self.visitor.torn(false);
        for piece in FrameReader::new(bytes, segment::HEADER_BYTES, epoch.seed()) {
            match piece {
                Piece::Damage { len, .. } => pending.damaged_bytes += len as u64,
                Piece::Tail { torn, .. } => self.out.report.torn_tails += u64::from(torn),
                Piece::Frame { offset, body } => {
                    let before = end as u64;
                    end = offset + crate::codec::frame::HEADER_BYTES + body.len();
                    let mut cursor = Cursor::new(body);
                    let (Some(index), Some(durable)) = (cursor.u32(), cursor.u32()) else {
                        pending.undecodable.push(offset as u64);
                        continue;
                    };
                    if index < pending.expected || index == u32::MAX {
                        // Left from a commit that was cut back, behind a shorter one in its place.
                        continue;
                    }
                    let follows_gap = index > pending.expected;
                    if follows_gap {
                        pending.gaps.push((pending.expected, index, before));
                        tear = (durable <= pending.expected).then_some(index);
                        self.visitor.torn(tear.is_some());
                    } else if tear.is_some_and(|index| durable >= index) {
                        // They did reach the disk; they are damaged.
                        tear = None;
                        self.visitor.torn(false);
                    }
                    pending.expected = index + 1;
                    pending.durable = pending.durable.max(durable.min(index));
                    self.out.report.frames += 1;
                    self.out.report.bytes += body.len() as u64;
                    self.visitor.frame(pending.sequence, offset as u64);
                    let is_needed = follows_gap || !record::is_copy(cursor.rest());
                    if is_needed && !self.record(cursor.rest())? {
                        pending.undecodable.push(offset as u64);
                    }
                }
            }
        }
        if epoch.durability == DurabilityKind::Os {
            // Nothing was promised, so nothing tells a gap of the crash from damage: the worse is assumed.
            pending.durable = pending.durable.max(pending.expected);
        }
        pending.end = end as u64;
        Ok(end)
    }

    fn record(&mut self, bytes: &[u8]) -> Result<bool> {
        let report = &mut self.out.report;
        report.clean_end = false;
        match record::decode(bytes, &mut self.scratch) {
            None => return Ok(false),
            Some(Record::End) => report.clean_end = true,
            Some(Record::Series(series)) => {
                for (id, labels) in series {
                    report.series += 1;
                    self.visitor.series(id, labels)?;
                }
            }
            Some(Record::Batch(batch)) => {
                let histograms = batch.histograms();
                report.samples += (batch.samples.ids.len() + histograms.ids.len()) as u64;
                if !batch.samples.ids.is_empty() {
                    self.visitor.samples(batch.samples)?;
                }
                if !histograms.ids.is_empty() {
                    self.visitor.histograms(histograms)?;
                }
                if !batch.exemplars.is_empty() {
                    self.visitor.exemplars(&batch.exemplars)?;
                }
                for (family, metadata) in &batch.metadata {
                    self.visitor.metadata(family, metadata)?;
                }
            }
        }
        Ok(true)
    }

    /// Of a segment that was read nothing is kept.
    fn withdraw(&self, sequence: u64) {
        if self.kept.contains(&sequence)
            && let Err(error) = aside::withdraw(self.fs, self.quarantine, sequence)
        {
            tracing::warn!(sequence, %error, "a log segment is read, and its second name in quarantine stays");
        }
    }

    fn settle(&mut self, pending: &Pending) {
        if pending.expected > 0 {
            (self.out.last_used, self.out.last_frames) = (pending.sequence, pending.unbroken());
        }
        let report = &mut self.out.report;
        let mut lost = 0;
        let mut places = Vec::new();
        let mut place = |offset, kind| places.push(DamagedPlace { segment: pending.sequence, offset, kind });
        for (from, to, offset) in &pending.gaps {
            let durable_to = (*to).min(pending.durable).max(*from);
            if durable_to > *from {
                place(*offset, LogDamage::Lost(u64::from(durable_to - from)));
            }
            lost += u64::from(durable_to - from);
            report.torn_frames += u64::from(to - durable_to);
        }
        report.lost_frames += lost;
        report.undecodable_frames += pending.undecodable.len() as u64;
        pending.undecodable.iter().for_each(|offset| place(*offset, LogDamage::Undecodable));
        let unreadable = pending.unreadable;
        report.unreadable_bytes += unreadable.bytes;
        if unreadable.bytes > 0 {
            place(unreadable.first, LogDamage::Unreadable(unreadable.bytes));
        }
        if lost > 0 {
            report.lost_bytes += pending.damaged_bytes;
        }
        if pending.header_damaged {
            place(0, LogDamage::Header);
        }
        if !places.is_empty() {
            report.damaged_segments.push(pending.sequence);
        }
        if unreadable.bytes > 0 {
            let is_unread = aside::keep(self.fs, &pending.path, self.quarantine, pending.sequence);
            if let Some(retired) = self.out.needed.get_mut(&pending.sequence) {
                retired.is_unread = is_unread;
            }
        } else if !places.is_empty() {
            keep_copy(self.fs, &pending.path, self.quarantine);
        }
        let room = PLACES_MAX.saturating_sub(report.places.len());
        report.places.extend(places.into_iter().take(room));
        if unreadable.bytes == 0 {
            self.withdraw(pending.sequence);
        }
    }
}

impl Pending {
    fn new(sequence: u64, path: PathBuf) -> Self {
        Self {
            sequence,
            path,
            expected: 0,
            gaps: Vec::new(),
            durable: 0,
            end: segment::HEADER_BYTES as u64,
            damaged_bytes: 0,
            undecodable: Vec::new(),
            unreadable: Unreadable::default(),
            header_damaged: false,
        }
    }

    /// How many frames from the front on are there or were durable. Behind a frame that was torn others of its write may be whole;
    /// were they counted, the next start would miss the torn one among them.
    fn unbroken(&self) -> u32 {
        let torn = self.gaps.iter().find(|(_, to, _)| *to > self.durable);
        torn.map_or(self.expected, |(from, ..)| self.durable.max(*from))
    }
}

/// The unit in which a file that cannot be read at once is tried again.
const BLOCK_BYTES: usize = 4096;
/// What is read of one file; no group of records is that long.
const FILE_BYTES_MAX: u64 = 2 << 30;

/// Replaces `bytes` with the contents of a file. Blocks the disk refuses read as zeros and are counted.
fn read_file(fs: &dyn Fs, path: &Path, bytes: &mut Vec<u8>) -> Result<Unreadable> {
    let attempt = |e| Error::io(format!("read the log segment {}", path.display()), e);
    bytes.clear();
    let open = || fs.open(path).map_err(|e| Error::io(format!("open the log segment {}", path.display()), e));
    let file = match Error::or_again(open) {
        Ok(file) => file,
        Err(error) if error.is_damage() || error.io_kind() == Some(std::io::ErrorKind::NotFound) => {
            tracing::warn!(path = %path.display(), %error, "a log segment cannot be opened");
            return Ok(Unreadable { bytes: 1, first: 0 });
        }
        // Going on without it would cost its samples, and the next start may find it.
        Err(error) => return Err(error),
    };
    let size = file.len().map_err(attempt)?;
    let len = size.min(FILE_BYTES_MAX) as usize;
    let short = |_| Error::internal(format!("no memory for the {len} bytes of {}", path.display()));
    bytes.try_reserve_exact(len).map_err(short)?;
    bytes.resize(len, 0);
    let mut unreadable = Unreadable { bytes: size - len as u64, first: len as u64 };
    if file.read_exact_at(bytes, 0).is_ok() {
        return Ok(unreadable);
    }
    for (block, number) in bytes.chunks_mut(BLOCK_BYTES).zip(0u64..) {
        if file.read_exact_at(block, number * BLOCK_BYTES as u64).is_err() {
            block.fill(0);
            unreadable.first = unreadable.first.min(number * BLOCK_BYTES as u64);
            unreadable.bytes += block.len() as u64;
        }
    }
    Ok(unreadable)
}

/// Copies a damaged segment for whoever wants to look; that this fails never stops a start.
fn keep_copy(fs: &dyn Fs, path: &Path, quarantine: &Path) {
    let Some(name) = path.file_name() else { return };
    let target = quarantine.join(name);
    let copy = || {
        fs.create_dir_all(quarantine)?;
        let mut bytes = Vec::new();
        read_file(fs, path, &mut bytes).map_err(std::io::Error::other)?;
        // Zeros at the end say nothing.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let file = fs.create(&target)?;
        file.write_all_at(bytes.get(..used).unwrap_or_default(), 0)?;
        file.sync_data()?;
        fs.sync_dir(quarantine)
    };
    match copy() {
        Ok(()) => {
            tracing::warn!(path = %path.display(), copy = %target.display(), "a log segment is damaged");
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no copy of a damaged log segment was kept");
        }
    }
}
