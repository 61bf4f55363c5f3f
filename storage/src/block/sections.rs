//! TSCOL: the distinct columns of timestamps of a block, collected and read.

use super::format::Fields;
use crate::chunk::{decode_timestamps, encode_timestamps};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Timestamp;
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of one entry of the directory.
const ENTRY_BYTES: usize = 24;
/// Bytes of the offset that ends the directory.
const LAST_BYTES: usize = 4;
/// The most samples of a column; what more a file claims is damage.
const SAMPLES_MAX: u32 = 1 << 20;

/// A column in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) offset: u32,
    pub(super) samples: u32,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

/// Collects columns; each distinct one is kept once, encoded.
#[derive(Debug, Default)]
pub(super) struct ColumnsBuilder {
    columns: Vec<Column>,
    payloads: Vec<u8>,
    by_hash: HashTable<u32>,
    /// The columns of the series before, plain: the series of one scrape share theirs.
    recent: Vec<(Vec<Timestamp>, u32)>,
    scratch: Vec<u8>,
}

impl ColumnsBuilder {
    /// The number of the column `timestamps`, which is chunk number `chunk` of its series.
    ///
    /// # Errors
    /// The section would grow beyond what its offsets can say.
    pub(super) fn add(&mut self, chunk: usize, timestamps: &[Timestamp]) -> Result<u32> {
        if let Some((recent, id)) = self.recent.get(chunk)
            && recent == timestamps
        {
            return Ok(*id);
        }
        self.scratch.clear();
        encode_timestamps(timestamps, &mut self.scratch);
        let hash = xxh3_64(&self.scratch);
        let (columns, payloads) = (&mut self.columns, &mut self.payloads);
        let is_same = |id: &u32| {
            let at = *id as usize;
            let column = columns.get(at);
            let end = columns.get(at + 1).map_or(payloads.len(), |next| next.offset as usize);
            column.is_some_and(|c| {
                c.samples as usize == timestamps.len()
                    && payloads.get(c.offset as usize..end) == Some(&self.scratch)
            })
        };
        let known = self.by_hash.find(hash, is_same).copied();
        let id = match known {
            Some(id) => id,
            None => {
                let too_many =
                    |_| Error::new(ErrorKind::LimitExceeded, "the timestamps of one block exceed 4 GiB");
                let offset = u32::try_from(payloads.len()).map_err(too_many)?;
                let id = u32::try_from(columns.len()).map_err(too_many)?;
                let (first, last) = (timestamps.first(), timestamps.last());
                columns.push(Column {
                    offset,
                    samples: timestamps.len() as u32,
                    first: first.copied().unwrap_or_default(),
                    last: last.copied().unwrap_or_default(),
                });
                payloads.extend_from_slice(&self.scratch);
                let hash_of = |id: &u32| {
                    let at = *id as usize;
                    let start = columns.get(at).map_or(0, |c| c.offset as usize);
                    let end = columns.get(at + 1).map_or(payloads.len(), |next| next.offset as usize);
                    xxh3_64(payloads.get(start..end).unwrap_or_default())
                };
                self.by_hash.insert_unique(hash, id, hash_of);
                id
            }
        };
        if self.recent.len() <= chunk {
            self.recent.push((timestamps.to_vec(), id));
        } else if let Some(slot) = self.recent.get_mut(chunk) {
            slot.0.clear();
            slot.0.extend_from_slice(timestamps);
            slot.1 = id;
        }
        Ok(id)
    }

    /// The section.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + self.columns.len() * ENTRY_BYTES + self.payloads.len());
        out.extend_from_slice(&(self.columns.len() as u32).to_le_bytes());
        for column in &self.columns {
            out.extend_from_slice(&column.offset.to_le_bytes());
            out.extend_from_slice(&column.samples.to_le_bytes());
            out.extend_from_slice(&column.first.to_le_bytes());
            out.extend_from_slice(&column.last.to_le_bytes());
        }
        out.extend_from_slice(&(self.payloads.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.payloads);
        out
    }
}

/// The section in its stored form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns<'a> {
    directory: &'a [u8],
    payloads: &'a [u8],
    count: u32,
}

impl<'a> Columns<'a> {
    /// `None` if the bytes are not the section.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let count = fields.u32()?;
        let directory_bytes = (count as usize).checked_mul(ENTRY_BYTES)?.checked_add(LAST_BYTES)?;
        let (directory, payloads) = fields.0.split_at_checked(directory_bytes)?;
        Some(Self { directory, payloads, count })
    }

    /// A column by number.
    pub(super) fn get(&self, id: u32) -> Option<Column> {
        if id >= self.count {
            return None;
        }
        let mut fields = Fields(self.directory.get(id as usize * ENTRY_BYTES..)?);
        let column = Column {
            offset: fields.u32()?,
            samples: fields.u32()?,
            first: fields.i64()?,
            last: fields.i64()?,
        };
        (column.samples <= SAMPLES_MAX).then_some(column)
    }

    /// Replaces what is in `out` by the timestamps of column `id`; `None` if there is no such column or it is damaged.
    pub(super) fn decode(&self, id: u32, out: &mut Vec<Timestamp>) -> Option<()> {
        let column = self.get(id)?;
        let end = Fields(self.directory.get((id as usize + 1) * ENTRY_BYTES..)?).u32()?;
        let payload = self.payloads.get(column.offset as usize..end as usize)?;
        decode_timestamps(payload, column.samples as usize, out).ok()?;
        // Readers pass over columns by what the directory says of them.
        let ends = (out.first().copied().unwrap_or_default(), out.last().copied().unwrap_or_default());
        (ends == (column.first, column.last)).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diagram() {
        let mut builder = ColumnsBuilder::default();
        assert_eq!(builder.add(0, &[10, 20, 30]).unwrap(), 0);
        assert_eq!(builder.add(1, &[40, 51]).unwrap(), 1);
        assert_eq!(builder.add(0, &[10, 20, 30]).unwrap(), 0);
        assert_eq!(builder.add(0, &[40, 51]).unwrap(), 1);
        assert_eq!(builder.add(0, &[10, 20]).unwrap(), 2);
        let bytes = builder.finish();
        assert_eq!(bytes[..4], 3_u32.to_le_bytes());
        assert_eq!(bytes[4..12], [0, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(bytes[12..20], 10_i64.to_le_bytes());
        assert_eq!(bytes[4 + 72..], [9, 0, 0, 0, 0, 20, 20, 0, 80, 22, 0, 20, 20]);
        let columns = Columns::new(&bytes).unwrap();
        assert_eq!(columns.get(1), Some(Column { offset: 3, samples: 2, first: 40, last: 51 }));
        assert_eq!(columns.get(3), None);
        let mut out = Vec::new();
        columns.decode(1, &mut out).unwrap();
        assert_eq!(out, [40, 51]);
        // The first and the last of column 1, as the directory has them.
        for at in 4 + 24 + 8..4 + 48 {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert!(Columns::new(&wrong).unwrap().decode(1, &mut out).is_none(), "{at}");
        }
        assert!((0..bytes.len()).all(|cut| Columns::new(&bytes[..cut]).is_none_or(|c| c.get(9).is_none())));
    }
}
