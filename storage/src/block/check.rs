//! Checking a block: every byte against its checksum, every series decoded, in one go or in small steps.

use super::exact::{ExactReader, ExactSamples};
use super::format::{self, Section};
use super::reader::Block;
use crate::env::Fs;
use crate::error::{Error, Result};
use crate::model::{Labels, TimeRange};
use roaring::RoaringBitmap;
use std::path::Path;
use std::sync::Arc;

/// A place in a block that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Byte of the file where the damaged part begins.
    pub offset: u64,
    /// The series that cannot be read for it, if it is known.
    pub series: Option<Labels>,
    /// What is wrong.
    pub what: String,
}

/// So many places of one block are named.
const DAMAGE_MAX: usize = 1000;

/// How far a step by step check has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckCursor {
    sections: usize,
    series_pages: u32,
    data_pages: u32,
}

impl Block {
    /// Where a file that does not open as a block is damaged: in its header or in its footer. Nothing if it cannot be read.
    pub(crate) fn unsound_at(fs: &Arc<dyn Fs>, path: &Path) -> Option<u64> {
        let file = fs.open(path).ok()?;
        let len = file.len().ok()?;
        let mut header = vec![0; len.min(format::HEADER_BYTES as u64) as usize];
        file.read_exact_at(&mut header, 0).ok()?;
        let footer = len.saturating_sub(format::END_BYTES as u64);
        Some(if format::read_header(&header).is_ok() { footer } else { 0 })
    }

    /// Reads every byte of the block against its checksums.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] for the first damage found, or the disk refuses.
    pub fn verify(&self) -> Result<()> {
        let (_, is_whole) = self.check_step(&mut CheckCursor::default(), u64::MAX)?;
        if is_whole { Ok(()) } else { Err(Error::internal("a check without a bound comes to the end")) }
    }

    /// Reads every byte of the block, decodes every series and compares with what the block says about itself. Answers what
    /// is wrong, nothing if it is whole; of very much damage the first places.
    pub fn check(&self) -> Vec<Damage> {
        let mut found = Vec::new();
        for section in Section::ALL {
            if let Err(error) = self.section(section) {
                found.push(Damage { offset: self.section_offset(section), series: None, what: text(&error) });
            }
        }
        self.check_pages(&mut found);
        match self.columns() {
            Ok(_) => self.check_series(&mut found),
            // If the section fails its checksum, that is said already.
            Err(error) if self.section(Section::Tscol).is_ok() => {
                let offset = self.section_offset(Section::Tscol);
                found.push(Damage { offset, series: None, what: text(&error) });
            }
            Err(_) => {}
        }
        if let Err(error) = self.check_exemplars() {
            let offset = self.section_offset(Section::Exemplars);
            found.push(Damage { offset, series: None, what: text(&error) });
        }
        found.truncate(DAMAGE_MAX);
        found
    }

    fn check_pages(&self, found: &mut Vec<Damage>) {
        let mut bytes = Vec::new();
        for directory in [Section::SeriesPages, Section::DataPages] {
            for page in 0..self.page_count(directory).unwrap_or(0) {
                let read = match directory {
                    Section::SeriesPages => self.load_series_page(page).map(|_| ()),
                    _ => self.read_data_page(page, &mut bytes),
                };
                if let Err(error) = read {
                    let entry = self.page_entry(directory, page);
                    let offset = entry.map_or(self.section_offset(directory), |e| e.offset);
                    found.push(Damage { offset, series: None, what: text(&error) });
                }
            }
        }
    }

    fn check_series(&self, found: &mut Vec<Damage>) {
        let (mut reader, mut samples) = (ExactReader::default(), ExactSamples::default());
        let mut count = 0;
        let mut before: Option<Labels> = None;
        let offset = self.section_offset(Section::Pages);
        let bounds = TimeRange::closed(self.meta().min_time, self.meta().max_time);
        let is_first_damage = found.is_empty();
        for series in 0..self.series_count() {
            if found.len() >= DAMAGE_MAX {
                return;
            }
            let labels = self.series_labels(series).ok();
            let mut note = |what: String| found.push(Damage { offset, series: labels.clone(), what });
            if let Err(error) = reader.read(self, series, &mut samples) {
                note(text(&error));
                continue;
            }
            count += samples.len() as u64;
            if samples.times().is_some_and(|(a, b)| !bounds.contains(a) || !bounds.contains(b)) {
                note("the samples are outside of the times of the block".to_owned());
            }
            if labels.is_none() || before.as_ref() >= labels.as_ref() {
                note(format!("series {series} is not in the order of labels"));
            }
            before = labels;
        }
        if is_first_damage && found.is_empty() && count != self.meta().samples {
            let what = format!("{count} samples are there, the footer says {}", self.meta().samples);
            found.push(Damage { offset, series: None, what });
        }
    }

    /// Checks the next parts of the block against their checksums, about `bytes` bytes but at least one part, from `cursor`
    /// on, which moves. Answers how many bytes were read and whether that was the end.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] for damage, or the disk refuses; the cursor stands behind the part.
    pub fn check_step(&self, cursor: &mut CheckCursor, bytes: u64) -> Result<(u64, bool)> {
        let mut read = 0;
        let mut buffer = Vec::new();
        while let Some(section) = Section::ALL.get(cursor.sections) {
            cursor.sections += 1;
            // DATA and SERIES are read by page, below.
            if *section != Section::Pages {
                self.check_section(*section)?;
                read += self.section_bytes(*section);
            }
            if read >= bytes {
                return Ok((read, false));
            }
        }
        while cursor.series_pages < self.page_count(Section::SeriesPages)? {
            let page = cursor.series_pages;
            cursor.series_pages += 1;
            read += u64::from(self.page_entry(Section::SeriesPages, page)?.stored);
            self.load_series_page(page)?;
            if read >= bytes {
                return Ok((read, false));
            }
        }
        while cursor.data_pages < self.page_count(Section::DataPages)? {
            let page = cursor.data_pages;
            cursor.data_pages += 1;
            self.read_data_page(page, &mut buffer)?;
            read += buffer.len() as u64;
            if read >= bytes {
                return Ok((read, false));
            }
        }
        self.check_exemplars()?;
        Ok((read, true))
    }

    fn check_exemplars(&self) -> Result<()> {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.series_count());
        self.read_exemplars(&all, TimeRange::ALL, &mut |_, _| {})
    }
}

fn text(error: &Error) -> String {
    error.to_string()
}
