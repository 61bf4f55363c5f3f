//! Remote write 2.0 (`io.prometheus.write.v2.Request`), decoded by hand without copying. Hot path.
//!
//! Every text of a request stands once in its table of symbols; labels are numbers of entries of the table.
//!
//! ```text
//! Request     4 symbols (repeated string)   5 timeseries (repeated message)
//! TimeSeries  1 labels_refs (name, value, name, value …)   2 samples   3 histograms   4 exemplars   5 metadata
//! Sample      1 value   2 timestamp   3 start_timestamp
//! Exemplar    1 labels_refs   2 value   3 timestamp
//! Metadata    1 type   3 help_ref   4 unit_ref
//! ```
//!
//! The canonical bytes of a label set, by which storage knows a series, are put together from the table in one buffer that is
//! used for one series after the other.

use super::protobuf::{Field, FieldValue, ProtobufError, Reader};
use super::remote_write_histogram::{SentHistogram, decode_histogram, each_varint};
use super::remote_write_limits::{
    DecodeError, EXEMPLARS_MAX, HISTOGRAM_NUMBERS_MAX, MESSAGE_V1, MESSAGE_V2, Met, REFERENCES_MAX,
    SYMBOLS_MAX,
};
use kymo_storage::model::{Labels, METRIC_NAME, Metadata, MetricType, Timestamp};
use std::ops::Range;
use thiserror::Error;

/// What a name and its value are in the table.
pub type References = Range<usize>;

/// One sample of a request.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SentSample {
    /// Milliseconds since the Unix epoch.
    pub timestamp: Timestamp,
    /// The value.
    pub value: f64,
    /// When counting began; 0 if that is not known.
    pub start_timestamp: Timestamp,
}

/// One exemplar of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct SentExemplar {
    /// Its labels, for [`Request::labels`].
    pub labels: References,
    /// The value.
    pub value: f64,
    /// Milliseconds since the Unix epoch.
    pub timestamp: Timestamp,
}

/// What a series says of its metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SentMetadata {
    metric_type: MetricType,
    help: u32,
    unit: u32,
}

/// One series of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels, for [`Request::labels`].
    pub labels: References,
    /// Its samples in [`Request::samples`].
    pub samples: Range<usize>,
    /// Its native histograms in [`Request::histograms`].
    pub histograms: Range<usize>,
    /// Its exemplars in [`Request::exemplars`].
    pub exemplars: Range<usize>,
    /// Type, help and unit, for [`Request::metadata`].
    pub metadata: SentMetadata,
}

/// A decoded request; borrows from the body.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    symbols: Vec<&'a [u8]>,
    references: Vec<u32>,
    /// In the order of the body.
    pub series: Vec<Series>,
    /// The samples of all series, in the order of the body.
    pub samples: Vec<SentSample>,
    /// The native histograms of all series, in the order of the body.
    pub histograms: Vec<SentHistogram>,
    /// The exemplars of all series, in the order of the body.
    pub exemplars: Vec<SentExemplar>,
    histogram_numbers: usize,
}

/// Numbers that name nothing in the table.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SymbolError {
    /// A name without a value.
    #[error("invalid labelRefs length {0}")]
    OddLength(usize),
    /// A label.
    #[error("labelRefs {name} (name) = {value} (value) outside of symbols table (size {size})")]
    Label {
        /// The number of the name.
        name: u32,
        /// The number of the value.
        value: u32,
        /// The size of the table.
        size: usize,
    },
    /// The help or unit of metadata.
    #[error("metadata {field} {number} outside of symbols table (size {size})")]
    Metadata {
        /// The field's name.
        field: &'static str,
        /// The number in it.
        number: u32,
        /// The size of the table.
        size: usize,
    },
}

/// What one series with one sample takes at least in real bodies; only sizes the first allocation.
const SERIES_BYTES_TYPICAL: usize = 40;

/// Decodes a request of at most `samples_max` samples and histograms.
///
/// # Errors
/// The body is not the message; nothing of it may then be used.
pub fn decode(body: &[u8], samples_max: usize) -> Result<Request<'_>, DecodeError> {
    let expected = body.len() / SERIES_BYTES_TYPICAL + 1;
    let mut request = Request {
        symbols: Vec::with_capacity(expected),
        references: Vec::with_capacity(expected.saturating_mul(8)),
        series: Vec::with_capacity(expected),
        samples: Vec::with_capacity(expected),
        ..Request::default()
    };
    let mut reader = Reader::new(body);
    loop {
        let offset = reader.position();
        let malformed = |cause| DecodeError::Malformed { offset, cause };
        let Some(field) = reader.next_field().map_err(malformed)? else { break };
        match field.number {
            4 => {
                let symbol = field.bytes().map_err(malformed)?;
                if request.symbols.len() == SYMBOLS_MAX {
                    return Err(DecodeError::TooManySymbols(SYMBOLS_MAX));
                }
                request.symbols.push(symbol);
            }
            5 => {
                let message = field.bytes().map_err(malformed)?;
                decode_series(message, samples_max, &mut request).map_err(malformed)?;
                request.check(samples_max)?;
            }
            // The series and the metadata of version 1.0. These numbers are reserved here, so that a body under the wrong name is
            // known as such.
            1 | 3 => return Err(DecodeError::OtherMessage { found: MESSAGE_V1, called: MESSAGE_V2 }),
            _ => {}
        }
    }
    match request.symbols.first() {
        Some(first) if !first.is_empty() => {
            let shown = String::from_utf8_lossy(first.get(..first.len().min(64)).unwrap_or_default());
            Err(DecodeError::FirstSymbol(shown.into_owned()))
        }
        _ => Ok(request),
    }
}

/// One series may hold the whole body; what exceeds a limit is only counted, and makes the request too large afterwards.
fn decode_series(message: &[u8], samples_max: usize, request: &mut Request<'_>) -> Result<(), ProtobufError> {
    let first = (request.samples.len(), request.histograms.len(), request.exemplars.len());
    let mut labels = request.references.len()..request.references.len();
    let mut metadata = SentMetadata::default();
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => {
                // Labels in two pieces with those of an exemplar between: nobody writes that, protobuf allows it.
                if labels.end != request.references.len() && request.references.len() <= REFERENCES_MAX {
                    let moved = request.references.len();
                    request.references.extend_from_within(labels.clone());
                    labels.start = moved;
                }
                keep_references(&field, &mut request.references)?;
                labels.end = request.references.len();
            }
            2 => {
                let sample = decode_sample(field.bytes()?)?;
                if request.samples.len() <= samples_max {
                    request.samples.push(sample);
                }
            }
            3 => {
                let histogram = decode_histogram(field.bytes()?)?;
                request.histogram_numbers += histogram.numbers;
                if request.histogram_numbers <= HISTOGRAM_NUMBERS_MAX
                    && request.histograms.len() <= samples_max
                {
                    request.histograms.push(histogram);
                }
            }
            4 => {
                let exemplar = decode_exemplar(field.bytes()?, &mut request.references)?;
                if request.exemplars.len() <= EXEMPLARS_MAX {
                    request.exemplars.push(exemplar);
                }
            }
            5 => decode_metadata(field.bytes()?, &mut metadata)?,
            _ => {}
        }
    }
    request.series.push(Series {
        labels,
        samples: first.0..request.samples.len(),
        histograms: first.1..request.histograms.len(),
        exemplars: first.2..request.exemplars.len(),
        metadata,
    });
    Ok(())
}

/// Adds the numbers of a field, as `uint32`: the low 32 bits. No more than the limit and one are kept.
#[inline]
fn keep_references(field: &Field<'_>, references: &mut Vec<u32>) -> Result<(), ProtobufError> {
    match field.value {
        // A number takes a byte or more; so these are within the limit, which is then judged once.
        FieldValue::Bytes(packed) if references.len() + packed.len() <= REFERENCES_MAX => {
            references.reserve(packed.len());
            let mut rest = packed;
            loop {
                match *rest {
                    [] => return Ok(()),
                    [first @ 0..0x80, ref tail @ ..] => {
                        references.push(u32::from(first));
                        rest = tail;
                    }
                    [first, second @ 0..0x80, ref tail @ ..] => {
                        references.push(u32::from(first & 0x7f) | u32::from(second) << 7);
                        rest = tail;
                    }
                    _ => {
                        let mut reader = Reader::new(rest);
                        references.push(reader.varint()? as u32);
                        rest = reader.span(reader.position(), rest.len());
                    }
                }
            }
        }
        _ => each_varint(field, |number| {
            if references.len() <= REFERENCES_MAX {
                references.push(number as u32);
            }
        }),
    }
}

#[inline]
fn decode_sample(message: &[u8]) -> Result<SentSample, ProtobufError> {
    let mut reader = Reader::new(message);
    let mut sample = SentSample::default();
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => sample.value = field.double()?,
            // `int64` is two's complement in 64 bits.
            2 => sample.timestamp = field.varint()?.cast_signed(),
            3 => sample.start_timestamp = field.varint()?.cast_signed(),
            _ => {}
        }
    }
    Ok(sample)
}

fn decode_exemplar(message: &[u8], references: &mut Vec<u32>) -> Result<SentExemplar, ProtobufError> {
    let start = references.len();
    let mut exemplar = SentExemplar { labels: start..start, value: 0.0, timestamp: 0 };
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => keep_references(&field, references)?,
            2 => exemplar.value = field.double()?,
            3 => exemplar.timestamp = field.varint()?.cast_signed(),
            _ => {}
        }
    }
    exemplar.labels.end = references.len();
    Ok(exemplar)
}

fn decode_metadata(message: &[u8], metadata: &mut SentMetadata) -> Result<(), ProtobufError> {
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => metadata.metric_type = MetricType::from_number(field.varint()?),
            3 => metadata.help = field.varint()? as u32,
            4 => metadata.unit = field.varint()? as u32,
            _ => {}
        }
    }
    Ok(())
}

impl<'a> Request<'a> {
    fn check(&self, samples_max: usize) -> Result<(), DecodeError> {
        if self.references.len() > REFERENCES_MAX {
            return Err(DecodeError::TooManyReferences(REFERENCES_MAX));
        }
        let met = Met {
            series: self.series.len(),
            samples: self.samples.len() + self.histograms.len(),
            exemplars: self.exemplars.len(),
            histogram_numbers: self.histogram_numbers,
        };
        met.check(samples_max)
    }

    /// The numbers of labels.
    pub fn references(&self, labels: &References) -> &[u32] {
        self.references.get(labels.clone()).unwrap_or_default()
    }

    /// Writes labels into `out` as the encoding of `repeated Label labels = 1`, in the order they were sent; what was there
    /// is replaced. Labels with an empty value are left out: to a database they are not there.
    ///
    /// # Errors
    /// A number that names nothing in the table; `out` then holds anything.
    #[inline]
    pub fn labels(&self, labels: &References, out: &mut Vec<u8>) -> Result<(), SymbolError> {
        out.clear();
        let (pairs, odd) = self.references(labels).as_chunks::<2>();
        if !odd.is_empty() {
            return Err(SymbolError::OddLength(labels.len()));
        }
        for &[name, value] in pairs {
            let (Some(name_text), Some(value_text)) =
                (self.symbols.get(name as usize), self.symbols.get(value as usize))
            else {
                return Err(SymbolError::Label { name, value, size: self.symbols.len() });
            };
            if !value_text.is_empty() {
                Labels::encode_pair(out, name_text, value_text);
            }
        }
        Ok(())
    }

    /// The symbol of the metric's name, if the labels have one.
    #[inline]
    pub fn name_symbol(&self, labels: &References) -> Option<u32> {
        let (pairs, _) = self.references(labels).as_chunks::<2>();
        let is_name =
            |name: u32| self.symbols.get(name as usize).is_some_and(|s| *s == METRIC_NAME.as_bytes());
        pairs.iter().find_map(|&[name, value]| is_name(name).then_some(value))
    }

    /// A symbol, if it is in the table and text.
    pub fn symbol(&self, number: u32) -> Option<&'a str> {
        std::str::from_utf8(self.symbols.get(number as usize)?).ok()
    }

    /// Whether metadata names what is in the table.
    ///
    /// # Errors
    /// A number that names nothing in it.
    #[inline]
    pub fn check_metadata(&self, sent: SentMetadata) -> Result<(), SymbolError> {
        let size = self.symbols.len();
        for (field, number) in [("unit_ref", sent.unit), ("help_ref", sent.help)] {
            // An empty table has nothing for 0 either, but 0 is not set.
            if number as usize >= size && sent != SentMetadata::default() {
                return Err(SymbolError::Metadata { field, number, size });
            }
        }
        Ok(())
    }

    /// What a series says of its metric; `None` if it says nothing.
    ///
    /// # Errors
    /// A number that names nothing in the table.
    pub fn metadata(&self, sent: SentMetadata) -> Result<Option<Metadata>, SymbolError> {
        if sent == SentMetadata::default() {
            return Ok(None);
        }
        self.check_metadata(sent)?;
        let text = |number: u32| {
            let symbol = self.symbols.get(number as usize).copied().unwrap_or_default();
            String::from_utf8_lossy(symbol).into_owned()
        };
        Ok(Some(Metadata { metric_type: sent.metric_type, unit: text(sent.unit), help: text(sent.help) }))
    }
}

#[cfg(test)]
#[path = "remote_write_v2_tests.rs"]
mod tests;
