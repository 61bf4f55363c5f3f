//! How protobuf writes its values in JSON: 64-bit integers as strings or numbers, floats as numbers or names, bytes in base64
//! but those of ids in hexadecimal, enums as numbers or names.

use crate::wire::base64;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, de::DeserializeOwned};

/// A number, or the text of one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Either<N> {
    Number(N),
    Text(String),
}

fn number<'de, D: Deserializer<'de>, N>(value: Either<N>) -> Result<N, D::Error>
where
    N: std::str::FromStr,
{
    match value {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(|_| D::Error::custom(format!("{text:?} is not a number"))),
    }
}

/// A `fixed64`, `uint64`, `int64` or `sfixed64`.
pub(super) fn integer<'de, D, N>(deserializer: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: DeserializeOwned + std::str::FromStr,
{
    number::<D, N>(Either::deserialize(deserializer)?)
}

/// The same, that may be left out.
pub(super) fn maybe<'de, D, N>(deserializer: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: DeserializeOwned + std::str::FromStr,
{
    Option::<Either<N>>::deserialize(deserializer)?.map(number::<D, N>).transpose()
}

/// A `double`: `NaN` and `Infinity` are texts.
pub(super) fn double<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    number::<D, f64>(Either::deserialize(deserializer)?)
}

/// A list of integers.
pub(super) fn integers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    Vec::<Either<u64>>::deserialize(deserializer)?.into_iter().map(number::<D, u64>).collect()
}

/// A list of doubles.
pub(super) fn doubles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    Vec::<Either<f64>>::deserialize(deserializer)?.into_iter().map(number::<D, f64>).collect()
}

/// A trace or span id.
pub(super) fn hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[a, b]| Some(digit(*a)? << 4 | digit(*b)?)).collect();
    bytes.filter(|_| odd.is_empty()).ok_or_else(|| D::Error::custom(format!("{text:?} is not hexadecimal")))
}

/// Bytes that may be left out.
pub(super) fn base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    let decode = |text: String| {
        base64::decode_any(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not base64")))
    };
    Option::<String>::deserialize(deserializer)?.map(decode).transpose()
}

/// `AggregationTemporality`.
pub(super) fn temporality<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    Ok(match Either::<i32>::deserialize(deserializer)? {
        Either::Number(number) => number,
        Either::Text(name) => match name.as_str() {
            "AGGREGATION_TEMPORALITY_DELTA" => 1,
            "AGGREGATION_TEMPORALITY_CUMULATIVE" => 2,
            _ => 0,
        },
    })
}
