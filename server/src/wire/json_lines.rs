//! Series as lines of JSON, one object a line, as VictoriaMetrics exports and imports them:
//!
//! ```text
//! {"metric":{"__name__":"up","job":"a"},"values":[1,"NaN"],"timestamps":[1500,2500]}
//! ```
//!
//! Times are milliseconds. What JSON has no number for is a string: `"NaN"`, `"Infinity"`, `"-Infinity"`, `"StaleNaN"` (the marker
//! of a series that ended), and `"NaN:7ff8000000000abc"` for any other NaN, by its bits; `null` is read as `NaN`. Two fields are
//! Kymo's own and left out where there is nothing to say: `start_timestamps` (as many as `timestamps`, 0 where it is not known)
//! and `histograms`, native histograms with floats as strings:
//!
//! ```text
//! "histograms":[{"timestamp":1500,"start_timestamp":0,"hint":0,"schema":3,"zero_threshold":"0.001","zero_count":"2","count":"5",
//!   "sum":"18.4","positive":{"spans":[[0,2]],"counts":["1","2"]},"negative":{"spans":[],"counts":[]},"custom_bounds":[]}]
//! ```

use super::json::string;
use super::text_format::number;
use kymo_storage::api::HistogramSample;
use kymo_storage::model::{
    AnyHistogram, Buckets, FloatHistogram, HistogramError, Labels, ResetHint, STALE_NAN_BITS, Span, Timestamp,
};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};

/// The NaN that arithmetic gives, by its bits.
const NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// One line as it is read.
#[derive(Debug, Default, Deserialize)]
pub struct ReadLine {
    /// The labels.
    #[serde(default, deserialize_with = "labels_once")]
    pub metric: BTreeMap<String, String>,
    /// The values.
    #[serde(default)]
    values: Vec<ExactFloat>,
    /// Milliseconds, as many.
    #[serde(default)]
    pub timestamps: Vec<Timestamp>,
    /// Milliseconds, as many or none.
    #[serde(default)]
    pub start_timestamps: Vec<Timestamp>,
    /// Native histograms.
    #[serde(default)]
    histograms: Vec<ReadHistogram>,
}

/// Labels, of which none comes twice: the second would take the place of the first without a word.
fn labels_once<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Once;
    impl<'de> Visitor<'de> for Once {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object of labels")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut labels = BTreeMap::new();
            while let Some((name, value)) = entries.next_entry::<String, String>()? {
                if labels.contains_key(&name) {
                    return Err(de::Error::custom(format_args!("duplicated label {name:?}")));
                }
                labels.insert(name, value);
            }
            Ok(labels)
        }
    }
    deserializer.deserialize_map(Once)
}

/// A float whose digits are read by our own hand: none of its bits is lost.
#[derive(Debug, Clone, Copy)]
struct ExactFloat(f64);

impl<'de> Deserialize<'de> for ExactFloat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&serde_json::value::RawValue>::deserialize(deserializer)?.get();
        let text = raw.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(raw);
        float(text).map(Self).ok_or_else(|| de::Error::custom(format!("{raw} is no value")))
    }
}

/// A float in any of its forms.
fn float(text: &str) -> Option<f64> {
    match text {
        "null" | "NaN" => Some(f64::from_bits(NAN_BITS)),
        "StaleNaN" => Some(f64::from_bits(STALE_NAN_BITS)),
        _ => match text.strip_prefix("NaN:") {
            Some(bits) => u64::from_str_radix(bits, 16).ok().map(f64::from_bits).filter(|v| v.is_nan()),
            None => number(text),
        },
    }
}

/// Writes the form of a float that [`float`] reads; `quoted` ones are strings always.
fn write_float(out: &mut impl Write, value: f64, quoted: bool) -> io::Result<()> {
    if value.is_finite() {
        let mut buffer = ryu::Buffer::new();
        let text = buffer.format_finite(value);
        let text = text.strip_suffix(".0").unwrap_or(text);
        return if quoted { write!(out, "\"{text}\"") } else { out.write_all(text.as_bytes()) };
    }
    match value.to_bits() {
        NAN_BITS => out.write_all(b"\"NaN\""),
        STALE_NAN_BITS => out.write_all(b"\"StaleNaN\""),
        bits if value.is_nan() => write!(out, "\"NaN:{bits:016x}\""),
        _ if value > 0.0 => out.write_all(b"\"Infinity\""),
        _ => out.write_all(b"\"-Infinity\""),
    }
}

/// A pair of JSON as a run of buckets.
#[derive(Debug)]
struct ReadSpan(Span);

impl<'de> Deserialize<'de> for ReadSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pair;
        impl<'de> Visitor<'de> for Pair {
            type Value = ReadSpan;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[offset, length]")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ReadSpan, A::Error> {
                let missing = || de::Error::custom("a span is [offset, length]");
                let offset = seq.next_element()?.ok_or_else(missing)?;
                let length = seq.next_element()?.ok_or_else(missing)?;
                Ok(ReadSpan(Span { offset, length }))
            }
        }
        deserializer.deserialize_seq(Pair)
    }
}

#[derive(Debug, Default, Deserialize)]
struct ReadBuckets {
    #[serde(default)]
    spans: Vec<ReadSpan>,
    #[serde(default)]
    counts: Vec<ExactFloat>,
}

#[derive(Debug, Deserialize)]
struct ReadHistogram {
    timestamp: Timestamp,
    #[serde(default)]
    start_timestamp: Timestamp,
    #[serde(default)]
    hint: u64,
    schema: i32,
    #[serde(default = "zero")]
    zero_threshold: ExactFloat,
    #[serde(default = "zero")]
    zero_count: ExactFloat,
    count: ExactFloat,
    sum: ExactFloat,
    #[serde(default)]
    positive: ReadBuckets,
    #[serde(default)]
    negative: ReadBuckets,
    #[serde(default)]
    custom_bounds: Vec<ExactFloat>,
}

fn zero() -> ExactFloat {
    ExactFloat(0.0)
}

impl ReadBuckets {
    fn into_buckets(self) -> Result<Buckets<f64>, HistogramError> {
        let spans = self.spans.into_iter().map(|s| s.0).collect();
        Buckets::new(spans, self.counts.into_iter().map(|c| c.0).collect())
    }
}

impl ReadHistogram {
    fn into_histogram(self) -> Result<AnyHistogram, HistogramError> {
        let read = FloatHistogram {
            hint: ResetHint::from_number(self.hint),
            schema: self.schema,
            zero_threshold: self.zero_threshold.0,
            zero_count: self.zero_count.0,
            count: self.count.0,
            sum: self.sum.0,
            positive: self.positive.into_buckets()?,
            negative: self.negative.into_buckets()?,
            custom_bounds: self.custom_bounds.into_iter().map(|b| b.0).collect(),
        };
        // Most clients count in whole numbers, and what is exported does not say.
        Ok(read.to_whole().map_or(AnyHistogram::Float(read), AnyHistogram::Int))
    }
}

/// A histogram of a line: its time, the start of its counting (0 if not known), and itself unless it contradicts itself.
pub type LineHistogram = (Timestamp, Timestamp, Result<AnyHistogram, HistogramError>);

impl ReadLine {
    /// Reads one line.
    ///
    /// # Errors
    /// It is not such an object, or its lists do not fit each other.
    pub fn parse(line: &str) -> Result<Self, String> {
        let read: Self = serde_json::from_str(line).map_err(|e| e.to_string())?;
        let (values, times) = (read.values.len(), read.timestamps.len());
        if values != times {
            return Err(format!("there are {values} values and {times} timestamps"));
        }
        let starts = read.start_timestamps.len();
        if starts != 0 && starts != times {
            return Err(format!("there are {times} timestamps and {starts} start_timestamps"));
        }
        if read.metric.is_empty() {
            return Err("\"metric\" is missing or has no labels".to_owned());
        }
        Ok(read)
    }

    /// Times, starts (0 if not known) and values.
    pub fn samples(&self) -> impl Iterator<Item = (Timestamp, Timestamp, f64)> {
        let starts = self.start_timestamps.iter().copied().chain(std::iter::repeat(0));
        self.timestamps.iter().zip(starts).zip(&self.values).map(|((t, s), v)| (*t, s, v.0))
    }

    /// The histograms, which are gone from the line then.
    pub fn take_histograms(&mut self) -> impl Iterator<Item = LineHistogram> + use<> {
        let list = std::mem::take(&mut self.histograms);
        list.into_iter().map(|h| (h.timestamp, h.start_timestamp, h.into_histogram()))
    }
}

/// Some samples of a series, to be written as a line.
#[derive(Debug, Clone, Copy)]
pub struct WriteLine<'s> {
    /// The series.
    pub labels: &'s Labels,
    /// Milliseconds.
    pub timestamps: &'s [Timestamp],
    /// As many values.
    pub values: &'s [f64],
    /// As many, or none.
    pub start_timestamps: &'s [Timestamp],
    /// Native histograms.
    pub histograms: &'s [HistogramSample],
}

fn list<T>(
    out: &mut impl Write,
    items: &[T],
    mut write_one: impl FnMut(&mut dyn Write, &T) -> io::Result<()>,
) -> io::Result<()> {
    out.write_all(b"[")?;
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        write_one(out, item)?;
    }
    out.write_all(b"]")
}

fn times(out: &mut impl Write, times: &[Timestamp]) -> io::Result<()> {
    list(out, times, |out, t| out.write_all(itoa::Buffer::new().format(*t).as_bytes()))
}

fn floats(out: &mut impl Write, values: &[f64], quoted: bool) -> io::Result<()> {
    list(out, values, |mut out, v| write_float(&mut out, *v, quoted))
}

impl WriteLine<'_> {
    /// Writes the line with its line feed.
    ///
    /// # Errors
    /// As the writer.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(b"{\"metric\":{")?;
        for (i, (name, value)) in self.labels.iter().enumerate() {
            if i > 0 {
                out.write_all(b",")?;
            }
            string(out, name)?;
            out.write_all(b":")?;
            string(out, value)?;
        }
        out.write_all(b"},\"values\":")?;
        floats(out, self.values, false)?;
        out.write_all(b",\"timestamps\":")?;
        times(out, self.timestamps)?;
        if self.start_timestamps.iter().any(|start| *start != 0) {
            out.write_all(b",\"start_timestamps\":")?;
            times(out, self.start_timestamps)?;
        }
        if !self.histograms.is_empty() {
            out.write_all(b",\"histograms\":")?;
            list(out, self.histograms, |mut out, h| write_histogram(&mut out, h))?;
        }
        out.write_all(b"}\n")
    }
}

fn write_histogram(out: &mut impl Write, sample: &HistogramSample) -> io::Result<()> {
    let h = &sample.histogram;
    write!(out, "{{\"timestamp\":{},\"start_timestamp\":{}", sample.timestamp, sample.start_timestamp)?;
    write!(out, ",\"hint\":{},\"schema\":{}", h.hint.number(), h.schema)?;
    let floats_of = [
        ("zero_threshold", h.zero_threshold),
        ("zero_count", h.zero_count),
        ("count", h.count),
        ("sum", h.sum),
    ];
    for (name, value) in floats_of {
        write!(out, ",\"{name}\":")?;
        write_float(out, value, true)?;
    }
    for (name, buckets) in [("positive", &h.positive), ("negative", &h.negative)] {
        write!(out, ",\"{name}\":{{\"spans\":")?;
        list(out, buckets.spans(), |out, span| write!(out, "[{},{}]", span.offset, span.length))?;
        out.write_all(b",\"counts\":")?;
        floats(out, buckets.counts(), true)?;
        out.write_all(b"}")?;
    }
    out.write_all(b",\"custom_bounds\":")?;
    floats(out, &h.custom_bounds, true)?;
    out.write_all(b"}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    #[test]
    fn lines_of_others() {
        let line = ReadLine::parse(
            r#" {"values":[1,null,"-Infinity",2.5e-3],"timestamps":[1,2,3,4],"metric":{"__name__":"a"},"x":[{}]} "#,
        );
        let line = line.unwrap();
        let samples: Vec<String> = line.samples().map(|(t, _, v)| format!("{t} {v}")).collect();
        assert_eq!(samples, ["1 1", "2 NaN", "3 -inf", "4 0.0025"]);
        let bad = [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{}", "\"metric\" is missing or has no labels"),
            (r#"{"metric":{"a":"b"},"values":[1],"timestamps":[]}"#, "there are 1 values and 0 timestamps"),
            (r#"{"metric":{"a":"b","a":"c"}}"#, "duplicated label \"a\" at line 1 column 27"),
        ];
        for (text, why) in bad {
            assert_eq!(ReadLine::parse(text).unwrap_err(), why, "{text}");
        }
        for text in
            [r#"{"values":["x"]}"#, r#"{"values":[{}]}"#, r#"{"values":["NaN:0"]}"#, "[1]", "nonsense"]
        {
            assert!(ReadLine::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_bit_for_bit(
            bits in prop::collection::vec(any::<u64>(), 0..8),
            labels in prop::collection::btree_map(".{1,5}", ".{1,5}", 1..4),
            starts in any::<bool>(),
            counts in prop::collection::vec(0u32..9, 1..5),
            sum in any::<u64>(),
        ) {
            let values: Vec<f64> = bits.iter().map(|b| f64::from_bits(*b)).collect();
            let timestamps: Vec<i64> = (0..values.len() as i64).map(|i| i * 1000 - 1500).collect();
            let start_timestamps = if starts { timestamps.iter().map(|t| t - 7).collect() } else { Vec::new() };
            let histogram = FloatHistogram {
                schema: 2,
                count: counts.iter().copied().sum::<u32>().into(),
                sum: f64::from_bits(sum),
                positive: Buckets::run(-3, counts.iter().map(|c| f64::from(*c)).collect()).unwrap(),
                hint: ResetHint::Gauge,
                ..FloatHistogram::default()
            };
            let sample = HistogramSample { timestamp: 5, start_timestamp: 3, histogram: Arc::new(histogram) };
            let labels = Labels::from_pairs(labels);
            let written = WriteLine {
                labels: &labels,
                timestamps: &timestamps,
                values: &values,
                start_timestamps: &start_timestamps,
                histograms: std::slice::from_ref(&sample),
            };
            let mut text = Vec::new();
            written.write(&mut text).unwrap();
            let mut read = ReadLine::parse(std::str::from_utf8(&text).unwrap()).unwrap();
            prop_assert_eq!(Labels::from_pairs(&read.metric), labels);
            let samples: Vec<(i64, i64, u64)> = read.samples().map(|(t, s, v)| (t, s, v.to_bits())).collect();
            let start = |t: i64| if starts { t - 7 } else { 0 };
            let expected: Vec<_> = timestamps.iter().zip(&bits).map(|(t, b)| (*t, start(*t), *b)).collect();
            prop_assert_eq!(samples, expected);
            let (time, start, histogram) = read.take_histograms().next().unwrap();
            let histogram = histogram.unwrap();
            prop_assert_eq!((time, start, histogram.hint()), (5, 3, ResetHint::Gauge));
            prop_assert!(matches!(histogram, AnyHistogram::Int(_)));
            prop_assert!(histogram.to_float().is_same_data(&sample.histogram));
        }

        #[test]
        fn any_line_ends_in_an_answer(text in "[\\[\\]{},:\"a-z0-9.-]{0,60}", values in "[-0-9.eE\"]{0,9}") {
            let _ = ReadLine::parse(&text);
            let _ = ReadLine::parse(&format!(r#"{{"metric":{{"a":"b"}},"timestamps":[1],"values":[{values}]}}"#));
        }
    }
}
