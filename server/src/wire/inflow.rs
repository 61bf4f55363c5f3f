//! Decompresses a body that comes in pieces: what is decoded is handed on at once, so no more than a window is in memory.

use super::body::Encoding;
use flate2::write::MultiGzDecoder;
use std::io::{self, Write};

/// The largest window of a zstd frame, as a power of two: what RFC 8878 asks every decoder to hold.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// A decoder that writes into `W`.
pub enum Inflow<W: Write + 'static> {
    /// Nothing to decode.
    Identity(W),
    /// gzip, of one or more members.
    Gzip(MultiGzDecoder<W>),
    /// zstd, of one or more frames.
    Zstd(Box<zstd::stream::write::Decoder<'static, W>>),
}

impl<W: Write + 'static> Inflow<W> {
    /// A decoder of `encoding`; `None` if it cannot be decoded in pieces, or a body that is cut short would not be noticed.
    ///
    /// # Errors
    /// The decompressor has no memory.
    pub fn new(encoding: Encoding, sink: W) -> io::Result<Option<Self>> {
        Ok(Some(match encoding {
            Encoding::Identity => Self::Identity(sink),
            Encoding::Gzip => Self::Gzip(MultiGzDecoder::new(sink)),
            Encoding::Zstd => {
                let mut decoder = zstd::stream::write::Decoder::new(sink)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Self::Zstd(Box::new(decoder))
            }
            _ => return Ok(None),
        }))
    }

    /// The next piece.
    ///
    /// # Errors
    /// It is damaged, or the sink refuses.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Identity(sink) => sink.write_all(bytes),
            Self::Gzip(decoder) => decoder.write_all(bytes),
            Self::Zstd(decoder) => decoder.write_all(bytes),
        }
    }

    /// There are no more pieces.
    ///
    /// # Errors
    /// The body is cut short, or the sink refuses.
    pub fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Identity(_) => Ok(()),
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zstd(decoder) => decoder.flush().and_then(|()| decoder.do_finish()),
        }
    }

    /// Where the decoded bytes go.
    pub fn sink(&mut self) -> &mut W {
        match self {
            Self::Identity(sink) => sink,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(encoding: Encoding, bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut inflow = Inflow::new(encoding, Vec::new())?.unwrap();
        for part in bytes.chunks(piece) {
            inflow.push(part)?;
        }
        inflow.end()?;
        Ok(std::mem::take(inflow.sink()))
    }

    #[test]
    fn pieces_of_any_size_and_bodies_cut_short() {
        let text: Vec<u8> = (0..20_000u32).flat_map(|i| (i * 7919).to_le_bytes()).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let packed = [
            (Encoding::Identity, text.clone()),
            (Encoding::Gzip, gzip.finish().unwrap()),
            (Encoding::Zstd, zstd::stream::encode_all(text.as_slice(), 3).unwrap()),
        ];
        for (encoding, bytes) in packed {
            for piece in [1, 1_000, 1 << 20] {
                assert!(unpack(encoding, &bytes, piece).unwrap() == text, "{encoding:?} {piece}");
            }
            if encoding != Encoding::Identity {
                assert!(
                    unpack(encoding, &[bytes.as_slice(), &bytes].concat(), 999).unwrap().len()
                        == 2 * text.len()
                );
                for cut in [1, 5, bytes.len() / 2] {
                    assert!(
                        unpack(encoding, &bytes[..bytes.len() - cut], 999).is_err(),
                        "{encoding:?} {cut}"
                    );
                }
                assert!(unpack(encoding, b"not packed at all, is it", 7).is_err(), "{encoding:?}");
            }
        }
        assert!(Inflow::new(Encoding::Snappy, Vec::new()).unwrap().is_none());
    }
}
