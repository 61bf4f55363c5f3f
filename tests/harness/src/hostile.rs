//! What hostile clients send: bombs of compression, framing that is none, texts and regular expressions without end.

use crate::remote_write::compress;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What a bomb becomes when it is believed, in bytes.
const BOMB_BYTES: usize = 256 << 20;

/// As many sockets as a test needs, as far as the system allows.
///
/// # Panics
/// The limit cannot be set.
pub fn allow_files(wanted: u64) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limits = getrlimit(Resource::Nofile);
    if limits.current.is_some_and(|now| now < wanted) {
        limits.current = Some(limits.maximum.map_or(wanted, |most| most.min(wanted)));
        setrlimit(Resource::Nofile, limits).expect("the soft limit may be as high as the hard one");
    }
}

fn zeros_into(mut writer: impl Write) {
    let zeros = vec![0; 1 << 20];
    for _ in 0..BOMB_BYTES / zeros.len() {
        writer.write_all(&zeros).expect("memory can be written to");
    }
}

fn gzip(fill: impl FnOnce(&mut flate2::write::GzEncoder<Vec<u8>>)) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    fill(&mut encoder);
    encoder.finish().expect("memory can be written to")
}

/// A snappy block of 40 bytes that says it holds as much as `claim`, a varint, says.
pub fn snappy_claim(claim: &[u8]) -> Vec<u8> {
    let mut body = claim.to_vec();
    body.resize(40, 0xff);
    body
}

/// `Content-Encoding`s and bodies that become 256 MiB, or say that they become more: each a few hundred KiB at most, but for
/// the true block of snappy, which becomes only 21 times as large.
pub fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let gz = gzip(|encoder| zeros_into(encoder));
    let nested = gzip(|encoder| encoder.write_all(&gz).expect("memory can be written to"));
    let member = gzip(|encoder| encoder.write_all(&vec![0; 1 << 20]).expect("memory can be written to"));
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zeros_into(&mut deflate);
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
    zeros_into(&mut zstd);
    // A zstd frame that asks for a window of 2 GiB, and one that says its content is 4 GiB long.
    let window = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    let mut content = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    content.extend_from_slice(&(4_u64 << 30).to_le_bytes());
    content.extend_from_slice(&[0x01, 0x00, 0x00]);
    vec![
        ("snappy", snappy_claim(b"\xff\xff\xff\xff\x0f")),
        ("snappy", compress(&vec![0; 40 << 20])),
        ("gzip", gz.clone()),
        ("gzip", member.repeat(BOMB_BYTES >> 20)),
        ("gzip", nested),
        ("gzip, gzip", gz),
        ("deflate", deflate.finish().expect("memory can be written to")),
        ("zstd", zstd.finish().expect("memory can be written to")),
        ("zstd", window),
        ("zstd", content),
        ("br", vec![0xff; 100]),
        ("identity", vec![0xff; 100_000]),
    ]
}

/// What the server answers to these bytes, until it closes or says nothing for a second.
///
/// # Panics
/// Nobody listens.
pub fn answer(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket has a timeout");
    stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a socket has a timeout");
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status codes in what [`answer`] found.
pub fn statuses(text: &str) -> Vec<u16> {
    let lines = text.split("HTTP/1.1 ").skip(1);
    lines.filter_map(|l| l.get(..3)?.parse().ok()).collect()
}

/// Strings that lead out of a folder, in one reading or another.
pub const TRAVERSALS: [&str; 41] = [
    "..",
    "../",
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%252e%252e%252fetc",
    "%252e%252e%252f%252e%252e%252fetc%252fpasswd",
    "..%5c..%5cetc",
    "..\\..\\etc\\passwd",
    "....//....//etc",
    "..././..././etc",
    "%c0%ae%c0%ae/etc",
    "%e0%80%ae%e0%80%ae/etc",
    "%00",
    "..%00/",
    "../../etc/passwd%00.json",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "//etc/passwd",
    "///etc/passwd",
    "./.",
    "%2e",
    "~root",
    "~/.ssh/id_rsa",
    "C:%5c",
    "%5c%5chost%5cshare",
    "file:%2f%2f%2fetc",
    "file:%2f%2f%2fetc%2fpasswd",
    "/proc/self/environ",
    "%2fproc%2fself%2fenviron",
    "/dev/zero",
    "%ff",
    "%",
    "%zz",
    "%2",
    "..;/",
    "%ef%bc%8e%ef%bc%8e/",
    "?/../",
    "#/../",
    "*",
];

/// What is odd about the framing of a request, its bytes, and whether it may be answered 2xx.
pub fn framing_oddities() -> Vec<(&'static str, Vec<u8>, bool)> {
    let write = |rest: &str| format!("POST /api/v1/write HTTP/1.1\r\nhost: x\r\n{rest}").into_bytes();
    let get = |rest: &str| format!("GET /-/healthy HTTP/1.1\r\nhost: x\r\n{rest}").into_bytes();
    let raw = |text: &str| text.as_bytes().to_vec();
    let chunked = |rest: &str| write(&format!("transfer-encoding: chunked\r\n\r\n{rest}"));
    let smuggled = "content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /-/ready HTTP/1.1\r\nhost: x\r\n\r\n";
    let long_method = format!("{} / HTTP/1.1\r\nhost: x\r\n\r\n", "A".repeat(1_000));
    let long_url = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100 << 10));
    vec![
        ("absolute form", raw("GET http://evil.example/-/healthy HTTP/1.1\r\nhost: x\r\n\r\n"), true),
        ("absolute form to nowhere", raw("GET http://evil.example/nope HTTP/1.1\r\nhost: x\r\n\r\n"), false),
        ("authority form", raw("CONNECT evil.example:80 HTTP/1.1\r\nhost: x\r\n\r\n"), false),
        ("asterisk", raw("OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n"), false),
        ("double slash", raw("GET //-/healthy HTTP/1.1\r\nhost: x\r\n\r\n"), false),
        ("encoded slash", raw("GET /-%2fhealthy HTTP/1.1\r\nhost: x\r\n\r\n"), false),
        ("HTTP/0.9", raw("GET /-/healthy\r\n\r\n"), false),
        ("an unknown version", raw("GET /-/healthy HTTP/7.7\r\nhost: x\r\n\r\n"), false),
        ("a method of a kilobyte", raw(&long_method), false),
        ("a URL of 100 KiB", raw(&long_url), false),
        ("a header of 1 MiB", get(&format!("x: {}\r\n\r\n", "y".repeat(1 << 20))), false),
        ("100,000 headers", get(&format!("{}\r\n", "a: b\r\n".repeat(100_000))), false),
        ("a header without colon", get("nonsense\r\n\r\n"), false),
        ("a space before the colon", get("x : y\r\n\r\n"), false),
        ("a folded header", get("x: y\r\n z\r\n\r\n"), false),
        ("NUL in a header", get("x: a\0b\r\n\r\n"), false),
        ("two lengths", write("content-length: 3\r\ncontent-length: 4\r\n\r\nabcd"), false),
        ("a negative length", write("content-length: -1\r\n\r\n"), false),
        ("a length with a sign", write("content-length: +5\r\n\r\nabcde"), false),
        ("a length of 30 digits", write(&format!("content-length: {}\r\n\r\n", "9".repeat(30))), false),
        ("a length of 100 GB", write("content-length: 99999999999\r\n\r\n"), false),
        ("a chunk of 2^63", chunked("8000000000000000\r\nabc"), false),
        ("a chunk of 2^64", chunked("10000000000000000\r\nabc"), false),
        ("a negative chunk", chunked("-1\r\nabc"), false),
        ("a chunk that is no number", chunked("zz\r\nabc"), false),
        (
            "a chunk extension of 1 MiB",
            chunked(&format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(1 << 20))),
            false,
        ),
        ("trailers of 1 MiB", chunked(&format!("0\r\nx: {}\r\n\r\n", "e".repeat(1 << 20))), false),
        ("an unknown transfer encoding", write("transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"), false),
        ("chunked twice", write("transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"), false),
        ("a smuggled request", write(smuggled), false),
        ("Expect and then nothing", write("expect: 100-continue\r\ncontent-length: 9\r\n\r\n"), false),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), false),
        ("no bytes at all", Vec::new(), false),
        ("zeros", vec![0; 100_000], false),
    ]
}

/// The name of a kind of long text, and the text of about so many bytes.
type LongText = (&'static str, fn(usize) -> Vec<u8>);

/// Texts of queries that are long, deep or no text, of any size.
pub const LONG_TEXTS: [LongText; 22] = [
    ("open brackets", |n| b"(".repeat(n)),
    ("balanced brackets", |n| [b"(".repeat(n / 2), b"1".to_vec(), b")".repeat(n / 2)].concat()),
    ("signs", |n| [b"-".repeat(n), b"1".to_vec()].concat()),
    ("sums", |n| [b"1+".repeat(n / 2), b"1".to_vec()].concat()),
    ("powers", |n| [b"1^".repeat(n / 2), b"1".to_vec()].concat()),
    ("unions", |n| [b"a or ".repeat(n / 5), b"a".to_vec()].concat()),
    ("subqueries", |n| [b"m".to_vec(), b"[5m:1s]".repeat(n / 7)].concat()),
    ("offsets", |n| [b"m".to_vec(), b" offset 5m".repeat(n / 10)].concat()),
    ("moments", |n| [b"m".to_vec(), b" @ 1".repeat(n / 4)].concat()),
    ("calls", |n| b"sum(".repeat(n / 4)),
    ("by lists", |n| [b"sum by (".to_vec(), b"a,".repeat(n / 2), b"a) (m)".to_vec()].concat()),
    ("matchers", |n| [b"m{".to_vec(), b"a=\"b\",".repeat(n / 6), b"a=\"b\"}".to_vec()].concat()),
    ("braces", |n| b"{".repeat(n)),
    ("square brackets", |n| b"[".repeat(n)),
    ("a string", |n| [b"\"".to_vec(), b"x".repeat(n), b"\"".to_vec()].concat()),
    ("escapes", |n| [b"\"".to_vec(), b"\\x41".repeat(n / 4), b"\"".to_vec()].concat()),
    ("a number", |n| b"1".repeat(n)),
    ("a duration", |n| [b"m[".to_vec(), b"1h".repeat(n / 2), b"]".to_vec()].concat()),
    ("scraps of UTF-8", |n| b"\x80\xbf\xf0".repeat(n / 3)),
    ("regex groups", |n| {
        [b"m{a=~\"".to_vec(), b"(".repeat(n / 2), b")".repeat(n / 2), b"\"}".to_vec()].concat()
    }),
    ("regex choices", |n| [b"m{a=~\"".to_vec(), b"ab|".repeat(n / 3), b"\"}".to_vec()].concat()),
    ("comments", |n| [b"#\n".repeat(n / 2), b"1".to_vec()].concat()),
];

/// Regular expressions that have brought one engine or another to its knees: in time, or in memory.
pub fn regex_bombs() -> Vec<String> {
    let mut bombs: Vec<String> = [
        "(a+)+$",
        "(a*)*b",
        "(a|a)*b",
        "(a|aa)+b",
        "(a|a?)+b",
        "(.*a){50}b",
        "(.*,){30}P",
        "(x+x+)+y",
        "(\\w+\\s?)*$",
        "^(([a-z])+.)+[A-Z]([a-z])+$",
        "(.*)*(.*)*(.*)*b",
        ".*.*.*.*.*.*.*=.*",
        "((a{1,100}){1,100}){1,100}",
        "a{1000000}",
        "(?:a{1000}){1000}",
        "((((a{30}){30}){30}){30}){30}",
        "\\pL{1000}",
        "[\\s\\S]{10000}",
        ".{1,5000}",
        "(\\p{Greek}|\\p{L}){200}",
        "[^\\x00-\\x7F]{500}",
        "(?i)(\\pL|\\pN|\\pS){300}",
        "(?:(?:(?:\\w{2,10}){2,10}){2,10}){2,10}",
        "(?s).*(.{1,400}).*(.{1,400}).*",
    ]
    .map(str::to_owned)
    .to_vec();
    bombs.push("a?".repeat(2_000) + &"a".repeat(2_000));
    bombs.push("(".repeat(5_000) + "a" + &")".repeat(5_000));
    bombs.push((0..8_000).map(|i| format!("a{i:05}|")).collect::<String>() + "b");
    bombs.push("(a|".repeat(4_000) + "b" + &")".repeat(4_000));
    bombs.push("[".repeat(10_000));
    bombs.push("(?:.*a.*b)|".repeat(2_000) + "c");
    bombs
}

/// Bytes in an encoding of HTTP, by its name; snappy is a block, or `framed snappy`.
///
/// # Panics
/// There is no such encoding.
pub fn packed(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::best();
    fn written<W: Write>(mut writer: W, bytes: &[u8]) -> W {
        writer.write_all(bytes).expect("memory takes everything");
        writer
    }
    let in_memory = match encoding {
        "identity" => Ok(bytes.to_vec()),
        "snappy" => Ok(compress(bytes)),
        "framed snappy" => written(snap::write::FrameEncoder::new(Vec::new()), bytes)
            .into_inner()
            .map_err(|e| e.into_error()),
        "gzip" => written(flate2::write::GzEncoder::new(Vec::new(), level), bytes).finish(),
        "deflate" => written(flate2::write::ZlibEncoder::new(Vec::new(), level), bytes).finish(),
        "zstd" => zstd::stream::encode_all(bytes, 3),
        other => panic!("there is no encoding {other:?}"),
    };
    in_memory.expect("memory takes everything")
}
