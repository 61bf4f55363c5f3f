//! Why a body is not a remote-write request, and how much one request may carry.
//!
//! A body of 32 MiB can hold sixteen million messages of two bytes each, and a block of snappy a twentieth of that; so what a
//! decoder keeps is bounded by number, not only by the size of the body. Senders send some thousand samples at once.

use super::protobuf::ProtobufError;
use thiserror::Error;

/// Series of one request.
pub const SERIES_MAX: usize = 1_000_000;
/// Exemplars of one request.
pub const EXEMPLARS_MAX: usize = 200_000;
/// Descriptions of metrics in one request of version 1.0.
pub const METADATA_MAX: usize = 200_000;
/// The most numbers in the histograms of one request: a body holds one in a byte, memory in eight.
pub const HISTOGRAM_NUMBERS_MAX: usize = 8_000_000;
/// Strings in the table of a request of version 2.0.
pub const SYMBOLS_MAX: usize = 2_000_000;
/// References to that table in one request.
pub const REFERENCES_MAX: usize = 16_000_000;

/// The name of the message of version 1.0.
pub const MESSAGE_V1: &str = "prometheus.WriteRequest";
/// The name of the message of version 2.0.
pub const MESSAGE_V2: &str = "io.prometheus.write.v2.Request";

/// Why a body is not a remote-write request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes are not the message.
    #[error("malformed protobuf in byte {offset} of the decoded body: {cause}")]
    Malformed {
        /// Where the series, metadata or symbol begins in which it happened.
        offset: usize,
        /// What happened.
        cause: ProtobufError,
    },
    /// More samples than one request may carry.
    #[error("the request carries more than {0} samples")]
    TooManySamples(usize),
    /// More series than one request may carry.
    #[error("the request carries more than {0} series")]
    TooManySeries(usize),
    /// More exemplars than one request may carry.
    #[error("the request carries more than {0} exemplars")]
    TooManyExemplars(usize),
    /// More descriptions of metrics than one request may carry.
    #[error("the request carries the metadata of more than {0} metrics")]
    TooMuchMetadata(usize),
    /// The body is the message of the other version: read as this one it would seem empty.
    #[error("the body is a {found}, but the Content-Type calls it a {called}")]
    OtherMessage {
        /// What it is.
        found: &'static str,
        /// What the request says it is.
        called: &'static str,
    },
    /// More buckets in its histograms than one request may carry.
    #[error("the histograms of the request have more than {0} buckets")]
    TooManyBuckets(usize),
    /// More strings in its table than one request may carry.
    #[error("the symbols table of the request has more than {0} strings")]
    TooManySymbols(usize),
    /// More references to its table than one request may carry.
    #[error("the labels of the request have more than {0} references to symbols")]
    TooManyReferences(usize),
    /// The table does not begin with the empty string, which 0 stands for.
    #[error("the symbols table must begin with the empty string, not with {0:?}")]
    FirstSymbol(String),
}

/// What a request carries so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Met {
    /// Series.
    pub series: usize,
    /// Samples and histograms.
    pub samples: usize,
    /// Exemplars.
    pub exemplars: usize,
    /// Numbers in histograms.
    pub histogram_numbers: usize,
}

impl Met {
    /// Whether that is within the limits; `samples_max` is that of samples and histograms together.
    ///
    /// # Errors
    /// The first limit that is exceeded.
    #[inline]
    pub fn check(self, samples_max: usize) -> Result<(), DecodeError> {
        if self.samples > samples_max {
            return Err(DecodeError::TooManySamples(samples_max));
        }
        if self.series > SERIES_MAX {
            return Err(DecodeError::TooManySeries(SERIES_MAX));
        }
        if self.exemplars > EXEMPLARS_MAX {
            return Err(DecodeError::TooManyExemplars(EXEMPLARS_MAX));
        }
        if self.histogram_numbers > HISTOGRAM_NUMBERS_MAX {
            return Err(DecodeError::TooManyBuckets(HISTOGRAM_NUMBERS_MAX));
        }
        Ok(())
    }
}
