//! A small blocking HTTP/1.1 client on a kept connection; understands Content-Length and chunked bodies.

use crate::tls::{Stream, Tls};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// The longest body taken from a server, in bytes: a test that asks for more has a mistake in it.
const BODY_BYTES_MAX: u64 = 1 << 30;
/// What is read at a time: measuring a server must not measure this.
const READ_BYTES: usize = 128 << 10;

/// A connection to one server, opened when needed and kept.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    timeout: Duration,
    tls: Option<Tls>,
    connection: Option<BufReader<Stream>>,
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, with the chunks put together; still compressed if it came so.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is not JSON; the text says what it was.
    pub fn json(&self) -> Result<serde_json::Value, String> {
        serde_json::from_slice(&self.body)
            .map_err(|e| format!("HTTP {}: {e} in {}", self.status, self.text()))
    }
}

impl Client {
    /// A client of the server at `address`; each request may take 60 seconds.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, timeout: Duration::from_secs(60), tls: None, connection: None }
    }

    /// The same with another time limit for each read and write.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same over TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: &Tls) -> Self {
        self.tls = Some(tls.clone());
        self
    }

    /// Sends a request and reads the answer. A request that fails on a kept connection before any byte of an answer is
    /// sent again only if it is a GET: whether a POST was carried out is then unknown, and the caller must know that.
    ///
    /// # Errors
    /// The connection failed, or the answer is not HTTP.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        let kept = self.connection.is_some();
        let answer = self.attempt(method, target, headers, body);
        if answer.is_err() {
            self.connection = None;
            if kept && method == "GET" {
                let again = self.attempt(method, target, headers, body);
                if again.is_err() {
                    self.connection = None;
                }
                return again;
            }
        }
        answer
    }

    /// A GET.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn get(&mut self, target: &str) -> io::Result<Response> {
        self.request("GET", target, &[], &[])
    }

    /// A POST of form fields.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn post_form(&mut self, target: &str, fields: &[(&str, &str)]) -> io::Result<Response> {
        let body: Vec<String> = fields.iter().map(|(n, v)| format!("{}={}", escape(n), escape(v))).collect();
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        self.request("POST", target, &headers, body.join("&").as_bytes())
    }

    fn attempt(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        self.begin(method, target, headers, body)?;
        self.finish(method)
    }

    /// Sends a request whose answer is read by [`Client::finish`]: so one thread can have many under way.
    ///
    /// # Errors
    /// The connection failed.
    pub fn begin(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let stream = Stream::connect(self.address, self.timeout, self.tls.as_ref())?;
                self.connection.insert(BufReader::with_capacity(READ_BYTES, stream))
            }
        };
        let mut message = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.address).into_bytes();
        for (name, value) in headers {
            message.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if method != "GET" || !body.is_empty() {
            message.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        message.extend_from_slice(b"\r\n");
        message.extend_from_slice(body);
        connection.get_mut().write_all(&message)
    }

    /// Reads the answer to a request of this method that was begun.
    ///
    /// # Errors
    /// The connection failed, the answer is not HTTP, or nothing was begun.
    pub fn finish(&mut self, method: &str) -> io::Result<Response> {
        let connection =
            self.connection.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        let (response, keep) = read_response(connection, method)?;
        if !keep {
            self.connection = None;
        }
        Ok(response)
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("answer is not HTTP/1.1: {what}"))
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.take(64 << 10).read_line(&mut line)? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// One answer, and whether the connection can be kept.
fn read_response(reader: &mut impl BufRead, method: &str) -> io::Result<(Response, bool)> {
    let status = loop {
        let line = read_line(reader)?;
        let status: u16 = line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| bad(&line))?;
        if status >= 200 {
            break status;
        }
        while !read_line(reader)?.is_empty() {}
    };
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad(&line))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut response = Response { status, headers, body: Vec::new() };
    let mut keep = response.header("connection").is_none_or(|v| !v.eq_ignore_ascii_case("close"));
    if method == "HEAD" || status == 204 || status == 304 {
        return Ok((response, keep));
    }
    if response.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = read_line(reader)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| bad(&line))?;
            if size == 0 {
                while !read_line(reader)?.is_empty() {}
                break;
            }
            read_body(reader, size, &mut response.body)?;
            read_line(reader)?;
        }
    } else if let Some(length) = response.header("content-length") {
        let length = length.parse().map_err(|_| bad("Content-Length"))?;
        read_body(reader, length, &mut response.body)?;
    } else {
        keep = false;
        reader.take(BODY_BYTES_MAX).read_to_end(&mut response.body)?;
    }
    Ok((response, keep))
}

fn read_body(reader: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if length > BODY_BYTES_MAX {
        return Err(bad("body too long"));
    }
    let got = reader.take(length).read_to_end(body)?;
    if got as u64 == length { Ok(()) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) }
}

/// Percent-encodes everything but letters, digits and `-._~`.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Response, bool) {
        read_response(&mut text.as_bytes(), "GET").unwrap()
    }

    #[test]
    fn bodies_of_each_kind() {
        let (r, keep) = parse("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef");
        assert_eq!((r.status, r.text().as_str(), keep), (200, "abc", true));
        let (r, keep) = parse(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        );
        assert_eq!((r.text().as_str(), keep), ("abcde", true));
        let (r, keep) = parse("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 No\r\nA: b\r\n\r\nrest");
        assert_eq!((r.status, r.header("a"), r.text().as_str(), keep), (400, Some("b"), "rest", false));
        let (r, keep) = parse("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        assert_eq!((r.status, r.body.len(), keep), (204, 0, false));
        assert!(read_response(&mut &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"[..], "GET").is_err());
        assert_eq!(escape("a b{c=\"é\"}"), "a%20b%7Bc%3D%22%C3%A9%22%7D");
    }
}
