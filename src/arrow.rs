//! Samples and answers as Arrow record batches (feature `arrow`).
//!
//! One row a sample. The columns are one for each label name, `Dictionary(Int32, Utf8)`, empty where a series has not that label; then
//! `timestamp`, `Timestamp(Millisecond, "UTC")`; then `value`, `Float64`. Native histograms are left out.
//!
//! ```
//! use kymo::{Db, Labels, TimeRange, arrow::RecordBatches};
//!
//! let db = Db::in_memory()?;
//! let mut appender = db.appender();
//! appender.append_labels(&Labels::from_pairs([("__name__", "up"), ("job", "a")]), 1_000, 1.0)?;
//! appender.commit()?.wait()?;
//! for batch in RecordBatches::new(db.select(&[], TimeRange::ALL)?) {
//!     let batch = batch?;
//!     assert_eq!((batch.num_rows(), batch.num_columns()), (1, 4));
//! }
//! # Ok::<(), kymo::Error>(())
//! ```

use crate::read::Selection;
use crate::{Answer, Error, ErrorKind, Result};
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, StringArray, TimestampMillisecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use kymo_query::{Point, Series, Value};
use kymo_storage::model::{Labels, Timestamp};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub use arrow_array::RecordBatch;

/// Rows after which a batch is full.
const ROWS: usize = 32 * 1024;

/// The samples of a selection, series after series, as an iterator of record batches of one schema.
#[derive(Debug)]
pub struct RecordBatches {
    selection: Selection,
    schema: SchemaRef,
    rows: Rows,
    is_over: bool,
}

impl RecordBatches {
    /// All samples of `selection` that were not read from it yet. The label names of all its series are looked through for the schema.
    pub fn new(selection: Selection) -> Self {
        let labels = (0..selection.len()).filter_map(|index| Some(selection.series(index)?.labels()));
        let names = label_names(labels);
        let schema = schema(&names);
        Self { selection, schema, rows: Rows::new(names), is_over: false }
    }

    /// What all batches have in common.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn fill(&mut self) -> Result<()> {
        while !self.is_over && self.rows.len() < ROWS {
            let Some(series) = self.selection.next_series() else {
                self.is_over = true;
                break;
            };
            let labels = series.labels();
            while let Some(batch) = series.next_batch()? {
                self.rows.push(&labels, batch.timestamps, batch.values)?;
            }
        }
        Ok(())
    }
}

impl Iterator for RecordBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.fill() {
            self.is_over = true;
            self.rows.clear();
            return Some(Err(error));
        }
        (self.rows.len() > 0).then(|| self.rows.take(&self.schema))
    }
}

impl Answer {
    /// The floats of the answer as one record batch, in its order. A scalar has no label columns.
    ///
    /// # Errors
    /// `Invalid`: the answer is a text.
    pub fn to_record_batch(&self) -> Result<RecordBatch> {
        let (one, vector): (Vec<Series>, Vec<Series>);
        let all: &[Series] = match &self.value {
            Value::Matrix(series) => series,
            Value::Scalar(point) => {
                one = vec![series(Labels::empty(), *point)];
                &one
            }
            Value::Vector(samples) => {
                let floats = samples.iter().filter(|sample| sample.histogram.is_none());
                vector = floats.map(|sample| series(sample.labels.clone(), sample.point)).collect();
                &vector
            }
            Value::String { .. } => return Err(Error::invalid("a text is no table of samples")),
        };
        let names = label_names(all.iter().map(|series| series.labels.clone()));
        let schema = schema(&names);
        let mut rows = Rows::new(names);
        for Series { labels, points, .. } in all {
            let (times, values): (Vec<_>, Vec<_>) = points.iter().map(|p| (p.timestamp, p.value)).unzip();
            rows.push(labels, &times, &values)?;
        }
        rows.take(&schema)
    }
}

fn series(labels: Labels, point: Point) -> Series {
    Series { labels, points: vec![point], histograms: Vec::new() }
}

fn label_names(all: impl Iterator<Item = Labels>) -> Vec<String> {
    let mut names = BTreeSet::new();
    for labels in all {
        for (name, _) in labels.iter() {
            if !names.contains(name) {
                names.insert(name.to_owned());
            }
        }
    }
    names.into_iter().collect()
}

fn schema(names: &[String]) -> SchemaRef {
    let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let mut fields: Vec<Field> = names.iter().map(|name| Field::new(name, text.clone(), false)).collect();
    fields.push(Field::new(
        "timestamp",
        DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        false,
    ));
    fields.push(Field::new("value", DataType::Float64, false));
    Arc::new(Schema::new(fields))
}

/// Rows on their way into a batch.
#[derive(Debug)]
struct Rows {
    names: Vec<String>,
    labels: Vec<TextColumn>,
    timestamps: Vec<Timestamp>,
    values: Vec<f64>,
}

#[derive(Debug, Default)]
struct TextColumn {
    keys: Vec<i32>,
    texts: Vec<String>,
    known: HashMap<String, i32>,
}

impl Rows {
    fn new(names: Vec<String>) -> Self {
        let labels = names.iter().map(|_| TextColumn::default()).collect();
        Self { names, labels, timestamps: Vec::new(), values: Vec::new() }
    }

    fn len(&self) -> usize {
        self.values.len()
    }

    fn clear(&mut self) {
        *self = Self::new(std::mem::take(&mut self.names));
    }

    fn push(&mut self, labels: &Labels, timestamps: &[Timestamp], values: &[f64]) -> Result<()> {
        for (name, column) in self.names.iter().zip(&mut self.labels) {
            let key = column.key(labels.value(name))?;
            column.keys.resize(column.keys.len() + values.len(), key);
        }
        self.timestamps.extend_from_slice(timestamps);
        self.values.extend_from_slice(values);
        Ok(())
    }

    /// The rows as a batch; there are none after that.
    fn take(&mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        let failed = |e: arrow_schema::ArrowError| Error::new(ErrorKind::Internal, e.to_string());
        let empty = Self::new(self.names.clone());
        let Self { labels, timestamps, values, .. } = std::mem::replace(self, empty);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(labels.len() + 2);
        for TextColumn { keys, texts, .. } in labels {
            let (keys, texts) = (Int32Array::from(keys), StringArray::from(texts));
            columns.push(Arc::new(
                DictionaryArray::<Int32Type>::try_new(keys, Arc::new(texts)).map_err(failed)?,
            ));
        }
        columns.push(Arc::new(TimestampMillisecondArray::from(timestamps).with_timezone("UTC")));
        columns.push(Arc::new(Float64Array::from(values)));
        RecordBatch::try_new(Arc::clone(schema), columns).map_err(failed)
    }
}

impl TextColumn {
    fn key(&mut self, text: &str) -> Result<i32> {
        if let Some(key) = self.known.get(text) {
            return Ok(*key);
        }
        let key = i32::try_from(self.texts.len());
        let key =
            key.map_err(|_| Error::new(ErrorKind::LimitExceeded, "a label has more than 2^31 values"))?;
        self.texts.push(text.to_owned());
        self.known.insert(text.to_owned(), key);
        Ok(key)
    }
}
