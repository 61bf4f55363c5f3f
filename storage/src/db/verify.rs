//! Verify: every byte of a store is read, nothing is changed, and what is wrong is named.
//!
//! What is looked at: MANIFEST, TOMBSTONES, the registry checkpoint, every block of the manifest (header, footer, sections,
//! pages, every chunk of every series decoded, times and counts compared), every frame of the log that a start would read,
//! and what lies in quarantine.

use crate::block::{Block, Manifest, load_tombstones, quarantined_blocks};
use crate::env::{Fs, ReadOnlyFs};
use crate::error::{Error, Result};
use crate::head::checkpoint;
use crate::model::{Labels, Metadata};
use crate::options::Limits;
use crate::wal::{self, ExemplarRecord, HistogramsRecord, ReplayVisitor, SamplesRecord};
use roaring::RoaringBitmap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a look at a whole store gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Files read.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Blocks among them.
    pub blocks: u64,
    /// Series in the blocks, counted once for each block.
    pub series: u64,
    /// Samples in the blocks.
    pub block_samples: u64,
    /// Samples in the log.
    pub wal_samples: u64,
    /// What is wrong; nothing if the store is whole.
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// The byte where the damaged part begins, if it is known.
    pub offset: Option<u64>,
    /// The series that cannot be read for it, if it is one.
    pub series: Option<Labels>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(offset) = self.offset {
            write!(f, " at {offset}")?;
        }
        if let Some(series) = &self.series {
            write!(f, ", series {series}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Reads every byte of the store in `dir` and says whether it is whole. The store should be closed: what a running one writes
/// meanwhile may look torn. Nothing is changed.
///
/// # Errors
/// `dir` cannot be listed. Damage is not an error but a finding.
pub fn verify(fs: &Arc<dyn Fs>, dir: &Path) -> Result<VerifyReport> {
    let fs: Arc<dyn Fs> = Arc::new(ReadOnlyFs::new(Arc::clone(fs)));
    fs.list(dir).map_err(|e| Error::io(format!("list {}", dir.display()), e))?;
    let mut verifier = Verifier { fs, dir, report: VerifyReport::default() };
    let manifest = verifier.manifest();
    verifier.tombstones(manifest.has_deletes);
    for block in &manifest.blocks {
        verifier.block(&block.file, Some(block.meta.uuid));
    }
    let registered = manifest.checkpoint.as_ref().map_or(Some(0), |name| verifier.checkpoint(name));
    verifier.log(manifest.first_wal_segment, registered);
    for quarantined in quarantined_blocks(&verifier.fs, dir) {
        let what = format!("is in quarantine: {}", quarantined.reason);
        verifier.find(&quarantined.path, None, what);
    }
    for path in super::open::given_up(&verifier.fs, dir, manifest.first_wal_segment) {
        verifier.find(&path, None, super::open::LOG_GIVEN_UP);
    }
    Ok(verifier.report)
}

struct Verifier<'a> {
    fs: Arc<dyn Fs>,
    dir: &'a Path,
    report: VerifyReport,
}

impl Verifier<'_> {
    fn find(&mut self, file: &Path, offset: Option<u64>, what: impl fmt::Display) {
        let (file, what) = (file.to_owned(), what.to_string());
        self.report.findings.push(Finding { file, offset, series: None, what });
    }

    fn count(&mut self, file: &Path) {
        self.report.files += 1;
        self.report.bytes += self.fs.open(file).and_then(|f| f.len()).unwrap_or(0);
    }

    /// The manifest, or what the files say if there is none.
    fn manifest(&mut self) -> Manifest {
        let path = self.dir.join("MANIFEST");
        match Manifest::load(&self.fs, self.dir) {
            Ok(Some(manifest)) => {
                self.count(&path);
                return manifest;
            }
            Ok(None) => {}
            Err(error) => self.find(&path, Some(0), error),
        }
        let blocks = self.dir.join(super::open::BLOCKS);
        let (manifest, unsound) = Manifest::rebuild(&self.fs, &blocks).unwrap_or_default();
        if !manifest.blocks.is_empty() && self.report.is_whole() {
            self.find(&path, None, "is missing; it is rebuilt from the blocks at the next start");
        }
        for (file, error) in unsound {
            let offset = Block::unsound_at(&self.fs, &file);
            self.find(&file, offset, error);
        }
        manifest
    }

    fn tombstones(&mut self, is_expected: bool) {
        let path = self.dir.join(crate::block::TOMBSTONES_FILE);
        match load_tombstones(&self.fs, self.dir) {
            Ok(Some(_)) => self.count(&path),
            Ok(None) if is_expected => {
                self.find(&path, None, "is missing; samples that were deleted may be back");
            }
            Ok(None) => {}
            Err(error) => self.find(&path, Some(0), error),
        }
    }

    fn block(&mut self, name: &str, uuid: Option<[u8; 16]>) {
        let path = self.dir.join(super::open::BLOCKS).join(name);
        let block = match Block::open(&self.fs, &path) {
            Ok(block) => block,
            Err(error) => return self.find(&path, Block::unsound_at(&self.fs, &path), error),
        };
        self.count(&path);
        self.report.blocks += 1;
        self.report.series += block.meta().series;
        self.report.block_samples += block.meta().samples;
        if uuid.is_some_and(|uuid| uuid != block.meta().uuid) {
            self.find(&path, Some(0), "is not the block the manifest names");
        }
        for damage in block.check() {
            let (offset, series) = (Some(damage.offset), damage.series);
            self.report.findings.push(Finding { file: path.clone(), offset, series, what: damage.what });
        }
    }

    /// How many series the checkpoint has; nothing if it cannot be read.
    fn checkpoint(&mut self, name: &str) -> Option<u32> {
        let path = self.dir.join(super::open::HEAD).join(name);
        self.count(&path);
        match checkpoint::load(self.fs.as_ref(), &path, Limits::default()) {
            Ok(loaded) => Some(loaded.registry.len()),
            Err(error) => {
                self.find(&path, Some(0), error);
                None
            }
        }
    }

    /// `registered` is how many series the log need not name; nothing if that is not known.
    fn log(&mut self, first: u64, registered: Option<u32>) {
        let dir = self.dir.join(super::open::WAL);
        let Ok(files) = self.fs.list(&dir) else { return };
        let mut looked =
            Looked { named: RoaringBitmap::new(), place: (0, 0), unnamed: Vec::new(), is_torn: false };
        looked.named.insert_range(0..registered.unwrap_or(u32::MAX));
        let report = match wal::check(self.fs.as_ref(), &dir, first, &mut looked) {
            Ok(report) => report,
            Err(error) => return self.find(&dir, None, error),
        };
        let needed = files.iter().filter(|f| wal::segment::sequence_of(f).is_some_and(|s| s >= first));
        needed.for_each(|file| self.count(file));
        self.report.wal_samples = report.samples;
        for place in &report.places {
            self.find(&wal::segment::path_of(&dir, place.segment), Some(place.offset), place.kind);
        }
        for sequence in &report.missing_segments {
            let path = wal::segment::path_of(&dir, *sequence);
            self.find(&path, Some(0), "the segment of the log is missing; a later one names it");
        }
        for ((segment, offset), series) in looked.unnamed {
            let what =
                format!("samples of series number {series}, whose labels were in a record that is lost");
            self.find(&wal::segment::path_of(&dir, segment), Some(offset), what);
        }
    }
}

/// Looks at the records of a log and keeps none of their samples.
struct Looked {
    /// The numbers of series whose labels are known.
    named: RoaringBitmap,
    /// Segment and offset of the frame being read.
    place: (u64, u64),
    /// Where samples of other series lie first, and whose.
    unnamed: Vec<((u64, u64), u32)>,
    /// See [`ReplayVisitor::torn`].
    is_torn: bool,
}

/// So many series without labels are named.
const UNNAMED_MAX: usize = 1000;

impl Looked {
    fn needs(&mut self, ids: impl Iterator<Item = u32>) {
        if self.is_torn {
            return;
        }
        for id in ids {
            if self.unnamed.len() < UNNAMED_MAX && self.named.insert(id) {
                self.unnamed.push((self.place, id));
            }
        }
    }
}

impl ReplayVisitor for Looked {
    fn frame(&mut self, segment: u64, offset: u64) {
        self.place = (segment, offset);
    }

    fn torn(&mut self, is_torn: bool) {
        self.is_torn = is_torn;
    }

    fn series(&mut self, id: u32, _labels: &[u8]) -> Result<()> {
        self.named.insert(id);
        Ok(())
    }

    fn samples(&mut self, samples: SamplesRecord<'_>) -> Result<()> {
        self.needs(samples.ids.iter().copied());
        Ok(())
    }

    fn histograms(&mut self, histograms: HistogramsRecord<'_>) -> Result<()> {
        self.needs(histograms.ids.iter().copied());
        Ok(())
    }

    fn exemplars(&mut self, exemplars: &[ExemplarRecord<'_>]) -> Result<()> {
        self.needs(exemplars.iter().map(|exemplar| exemplar.id));
        Ok(())
    }

    fn metadata(&mut self, _family: &str, _metadata: &Metadata) -> Result<()> {
        Ok(())
    }
}
