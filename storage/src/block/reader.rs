//! `Block`: an open block file; sections are checked when first used, pages every time they are read.

use super::format::{self, BlockMeta, PAGE_ENTRY_BYTES, PageEntry, SERIES_PER_PAGE, Section, Sections};
use super::label_cache::LabelCache;
use super::sections::Columns;
use super::series_page::SeriesPage;
use crate::codec::compress::zstd_decode;
use crate::codec::crc::crc32;
use crate::env::{File, Fs, Mapped};
use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// How many pages of series are kept taken apart.
const CACHED_SERIES_PAGES: usize = 32;
/// What is read at a time to check a section, in bytes.
const CRC_PIECE_BYTES: u64 = 256 << 10;
const UNCHECKED: u8 = 0;
const SOUND: u8 = 1;
const DAMAGED: u8 = 2;

static NEXT_INSTANCE: AtomicU64 = AtomicU64::new(1);

/// An open block. Cheap to share; all methods take `&self` and may be called from several threads.
pub struct Block {
    pub(super) path: PathBuf,
    pub(super) meta: BlockMeta,
    version: u32,
    /// Tells open blocks apart, for readers that keep things from one to the next.
    pub(super) instance: u64,
    sections: Sections,
    states: [AtomicU8; Section::ALL.len()],
    map: Mapped,
    file: Arc<dyn File>,
    series_pages: Mutex<VecDeque<(u32, Arc<SeriesPage>)>>,
    pub(super) label_cache: LabelCache,
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").field("path", &self.path).field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl Block {
    /// Opens the block at `path` and checks its header and footer.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] if it is not a whole block; otherwise the operating system refuses.
    pub fn open(fs: &Arc<dyn Fs>, path: &Path) -> Result<Self> {
        let file = fs.open(path).map_err(|e| Error::io(format!("open {}", path.display()), e))?;
        let map = fs.map(path).map_err(|e| Error::io(format!("map {}", path.display()), e))?;
        let corrupt = |reason: String, offset: usize| {
            Error::corrupt(format!("{} at {offset}: {reason}", path.display()))
        };
        let read = |offset: usize, end: usize| {
            let mut bytes = vec![0; end - offset];
            let read = file.read_exact_at(&mut bytes, offset as u64);
            read.map_err(|e| Error::io(format!("read {} at {offset}", path.display()), e))?;
            Ok::<_, Error>(bytes)
        };
        let head = read(0, map.len().min(format::HEADER_BYTES))?;
        let (version, uuid) = format::read_header(&head).map_err(|reason| corrupt(reason, 0))?;
        let tail_start = map.len().saturating_sub(format::TAIL_BYTES_MAX);
        let tail = read(tail_start, map.len())?;
        let (sections, meta) =
            format::read_footer(&tail, map.len() as u64).map_err(|reason| corrupt(reason, tail_start))?;
        if meta.uuid != uuid {
            return Err(corrupt("header and footer are of different blocks".to_owned(), tail_start));
        }
        // What is kept for each series must not be more than the file can be asked for.
        let pages =
            sections.get(Section::SeriesPages.index()).map_or(0, |s| s.length) / PAGE_ENTRY_BYTES as u64;
        let most = pages.saturating_mul(u64::from(SERIES_PER_PAGE)).min(u64::from(u32::MAX));
        if meta.series > most {
            let text = format!("{} series are more than its pages can hold, {most}", meta.series);
            return Err(corrupt(text, tail_start));
        }
        Ok(Self {
            path: path.to_owned(),
            meta,
            version,
            instance: NEXT_INSTANCE.fetch_add(1, Ordering::Relaxed),
            sections,
            states: Default::default(),
            map,
            file,
            series_pages: Mutex::default(),
            label_cache: LabelCache::default(),
        })
    }

    /// What tells this open block from every other of the process.
    pub(crate) fn instance(&self) -> u64 {
        self.instance
    }

    /// What the block says about itself.
    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the file in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// How many series; their numbers are `0..series`, in the order of their labels.
    pub fn series_count(&self) -> u32 {
        self.meta.series as u32
    }

    /// The size in bytes of each part of the file, by name.
    pub fn part_bytes(&self) -> Vec<(&'static str, u64)> {
        let mut parts: Vec<_> =
            Section::ALL.iter().zip(&self.sections).map(|(s, e)| (s.name(), e.length)).collect();
        // DATA and SERIES are one extent: the first SERIES page parts them.
        let series = self.page_entry(Section::SeriesPages, 0).ok();
        if let (Some(first), Some(pages)) = (series, parts.first_mut()) {
            let data = first.offset.saturating_sub(format::HEADER_BYTES as u64).min(pages.1);
            let series = pages.1 - data;
            pages.1 = data;
            parts.push(("SERIES", series));
        }
        parts
    }

    /// Damage in this file.
    pub(super) fn corrupt(&self, section: Section, what: impl fmt::Display) -> Error {
        let offset = self.sections.get(section.index()).map_or(0, |s| s.offset);
        let (path, name) = (self.path.display(), section.name());
        Error::corrupt(format!("{path}: section {name} at {offset}: {what}"))
    }

    /// The bytes of a section, checked at the first call. They are read for that: what the device cannot read is an error then, in a
    /// map it would end the process.
    pub(super) fn section(&self, section: Section) -> Result<&[u8]> {
        let broken = || self.corrupt(section, "checksum mismatch");
        let index = section.index();
        let (Some(extent), Some(state)) = (self.sections.get(index), self.states.get(index)) else {
            return Err(broken());
        };
        let start = usize::try_from(extent.offset).map_err(|_| broken())?;
        let length = usize::try_from(extent.length).map_err(|_| broken())?;
        let bytes = self.map.get(start..).and_then(|b| b.get(..length)).ok_or_else(broken)?;
        if state.load(Ordering::Relaxed) == UNCHECKED {
            let is_sound =
                section == Section::Pages || self.read_crc(extent.offset, extent.length)? == extent.crc;
            state.store(if is_sound { SOUND } else { DAMAGED }, Ordering::Relaxed);
        }
        if state.load(Ordering::Relaxed) == SOUND { Ok(bytes) } else { Err(broken()) }
    }

    /// The size of a section.
    pub(super) fn section_bytes(&self, section: Section) -> u64 {
        self.sections.get(section.index()).map_or(0, |s| s.length)
    }

    /// The checksum of a part of the file.
    fn read_crc(&self, offset: u64, length: u64) -> Result<u32> {
        let mut piece = vec![0; length.min(CRC_PIECE_BYTES) as usize];
        let (mut crc, mut at, end) = (0, offset, offset + length);
        while at < end {
            let part = &mut piece[..(end - at).min(CRC_PIECE_BYTES) as usize];
            self.read_into(part, at)?;
            (crc, at) = (crc32(crc, part), at + part.len() as u64);
        }
        Ok(crc)
    }

    fn read_into(&self, out: &mut [u8], offset: u64) -> Result<()> {
        let describe = || format!("read {} at {offset}", self.path.display());
        self.file.read_exact_at(out, offset).map_err(|e| Error::io(describe(), e))
    }

    /// The bytes of a page of labels or exemplars as they are stored, checked. Compressed pages of at most `raw_max` bytes are never
    /// twice as long.
    pub(super) fn read_page(
        &self,
        kind: &str,
        page: u32,
        entry: &PageEntry,
        raw_max: usize,
    ) -> Result<Vec<u8>> {
        let (stored, raw) = (entry.stored as usize, entry.raw as usize);
        if raw > raw_max || stored > 2 * raw_max {
            let (path, offset) = (self.path.display(), entry.offset);
            let text = format!("claims {raw} bytes in {stored}; the limit is {raw_max}");
            return Err(Error::corrupt(format!("{path}: {kind} page {page} at {offset}: {text}")));
        }
        if entry.offset.checked_add(stored as u64).is_none_or(|end| end > self.file_bytes()) {
            let text = format!("lies outside of the file, which ends at {}", self.file_bytes());
            return Err(Error::corrupt(format!("{}: {kind} page {page} {text}", self.path.display())));
        }
        let mut bytes = vec![0; stored];
        self.read_into(&mut bytes, entry.offset)?;
        self.check_page(kind, page, entry, &bytes)?;
        Ok(bytes)
    }

    /// Where a section begins.
    pub(super) fn section_offset(&self, section: Section) -> u64 {
        self.sections.get(section.index()).map_or(0, |s| s.offset)
    }

    /// Checks a section again, whatever was found before.
    pub(super) fn check_section(&self, section: Section) -> Result<()> {
        if let Some(state) = self.states.get(section.index()) {
            state.store(UNCHECKED, Ordering::Relaxed);
        }
        self.section(section).map(|_| ())
    }

    /// The timestamp columns.
    pub(super) fn columns(&self) -> Result<Columns<'_>> {
        Columns::new(self.section(Section::Tscol)?)
            .ok_or_else(|| self.corrupt(Section::Tscol, "the directory is cut off"))
    }

    pub(super) fn page_count(&self, directory: Section) -> Result<u32> {
        Ok((self.section(directory)?.len() / PAGE_ENTRY_BYTES) as u32)
    }

    /// An entry of a page directory; the page lies inside the file.
    pub(super) fn page_entry(&self, directory: Section, page: u32) -> Result<PageEntry> {
        let (entries, _) = self.section(directory)?.as_chunks::<PAGE_ENTRY_BYTES>();
        entries
            .get(page as usize)
            .and_then(PageEntry::read)
            .filter(|e| e.offset.checked_add(u64::from(e.stored)).is_some_and(|end| end <= self.file_bytes()))
            .ok_or_else(|| self.corrupt(directory, format!("there is no sound entry for page {page}")))
    }

    fn check_page(&self, kind: &str, page: u32, entry: &PageEntry, bytes: &[u8]) -> Result<()> {
        if crc32(0, bytes) == entry.crc {
            return Ok(());
        }
        let (path, offset) = (self.path.display(), entry.offset);
        Err(Error::corrupt(format!("{path}: {kind} page {page} at {offset}: checksum mismatch")))
    }

    /// Reads a DATA page into `out`, replacing what is there.
    pub(super) fn read_data_page(&self, page: u32, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let entry = self.page_entry(Section::DataPages, page)?;
        if entry.stored as usize > format::DATA_PAGE_BYTES_MAX {
            return Err(
                self.corrupt(Section::DataPages, format!("page {page} claims {} bytes", entry.stored))
            );
        }
        out.resize(entry.stored as usize, 0);
        let read = self.read_into(out, entry.offset);
        let checked = read.and_then(|()| self.check_page("DATA", page, &entry, out));
        if checked.is_err() {
            out.clear();
        }
        checked
    }

    /// A SERIES page, taken apart; the pages last used are kept.
    pub(super) fn series_page(&self, page: u32) -> Result<Arc<SeriesPage>> {
        if let Some((_, found)) = self.series_pages.lock().iter().find(|p| p.0 == page) {
            return Ok(Arc::clone(found));
        }
        let parsed = self.load_series_page(page)?;
        let mut cached = self.series_pages.lock();
        if cached.len() >= CACHED_SERIES_PAGES {
            cached.pop_front();
        }
        cached.push_back((page, Arc::clone(&parsed)));
        Ok(parsed)
    }

    /// As [`Block::series_page`], always from the file.
    pub(super) fn load_series_page(&self, page: u32) -> Result<Arc<SeriesPage>> {
        let entry = self.page_entry(Section::SeriesPages, page)?;
        let broken = |what: &str| {
            let (path, offset) = (self.path.display(), entry.offset);
            Error::corrupt(format!("{path}: SERIES page {page} at {offset}: {what}"))
        };
        let stored = self.read_page("SERIES", page, &entry, format::SERIES_PAGE_BYTES_MAX)?;
        let mut raw = Vec::new();
        zstd_decode(&stored, entry.raw as usize, &mut raw).map_err(|_| broken("cannot be decompressed"))?;
        let before = page.checked_mul(SERIES_PER_PAGE).ok_or_else(|| broken("no such page"))?;
        let series = self.series_count().saturating_sub(before).min(SERIES_PER_PAGE);
        let parsed =
            SeriesPage::parse(raw, series, self.version).ok_or_else(|| broken("not a table of series"))?;
        Ok(Arc::new(parsed))
    }
}
