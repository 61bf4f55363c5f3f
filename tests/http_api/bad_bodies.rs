//! Hostile and broken bodies: a clear refusal, no memory spent, nothing changed, the server alive.

use crate::{Fresh, count, now_ms, store};
use kymo_tests::hostile::snappy_claim;
use kymo_tests::remote_write::{HEADERS, Request, TimeSeries, compress};

#[test]
fn each_is_refused_and_nothing_changes() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms();
    store(&mut client, &[TimeSeries::new("kept", &[], vec![(t, 1.0)])]);
    let good = Request::of(&[TimeSeries::new("never", &[], vec![(t, 1.0)])]);
    let truncated = &good.as_bytes()[..good.as_bytes().len() - 3];
    let mut trailing = good.as_bytes().to_vec();
    trailing.extend_from_slice(b"\x0a\x7f");
    let mut groups = good.as_bytes().to_vec();
    groups.push(0x0b);
    let mut wrong_type = good.as_bytes().to_vec();
    wrong_type.extend_from_slice(b"\x08\x01");
    let mut long_varint = good.as_bytes().to_vec();
    long_varint.extend_from_slice(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
    let mut half_block = good.compress();
    half_block.truncate(half_block.len() / 2);
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("empty", Vec::new(), "empty"),
        ("claims 4 GiB - 1", snappy_claim(b"\xff\xff\xff\xff\x0f"), "corrupt input"),
        ("claims 2 GiB", snappy_claim(b"\x80\x80\x80\x80\x08"), "corrupt input"),
        ("claims more than 32 bits", snappy_claim(b"\xff\xff\xff\xff\xff\xff\x0f"), "corrupt input"),
        ("claims 31 MiB", snappy_claim(b"\x80\x80\xc0\x0f"), "corrupt input"),
        ("not snappy", b"hello, this is not snappy at all".to_vec(), "corrupt input"),
        ("half a block", half_block, "corrupt input"),
        ("truncated protobuf", compress(truncated), "malformed protobuf"),
        ("a good series, then a length over the end", compress(&trailing), "malformed protobuf"),
        ("a group", compress(&groups), "wire type 3"),
        ("a series that is a number", compress(&wrong_type), "wrong wire type"),
        ("a varint without end", compress(&long_varint), "64 bits"),
    ];
    for (what, body, says) in &cases {
        let response = client.request("POST", "/api/v1/write", &HEADERS, body).unwrap();
        assert_eq!(response.status, 400, "{what}: {}", response.text());
        assert!(response.text().contains(says), "{what}: {}", response.text());
    }
    assert_eq!(count(&mut client, "never", t), 0);
    assert_eq!(count(&mut client, "kept", t), 1);
}

#[test]
fn bombs_cost_no_memory() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let body = snappy_claim(b"\xff\xff\xff\xff\x0f");
    for _ in 0..20 {
        client.request("POST", "/api/v1/write", &HEADERS, &body).unwrap();
    }
    let before = fresh.server.usage().resident_bytes;
    for _ in 0..500 {
        assert_eq!(client.request("POST", "/api/v1/write", &HEADERS, &body).unwrap().status, 400);
    }
    let grown = fresh.server.usage().resident_bytes.saturating_sub(before);
    assert!(grown <= 1 << 20, "{grown} bytes more");
}

#[test]
fn random_damage_never_ends_the_server() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms();
    let series: Vec<TimeSeries> =
        (0..20).map(|i| TimeSeries::new("m", &[("i", &i.to_string())], vec![(t, f64::from(i))])).collect();
    let good = Request::of(&series);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for round in 0..400 {
        let mut bytes = good.as_bytes().to_vec();
        for _ in 0..=next(4) {
            let at = next(bytes.len());
            bytes[at] = next(256) as u8;
        }
        let mut body = compress(&bytes);
        if round % 3 == 0 {
            let at = next(body.len());
            body[at] ^= 1 << next(8);
        }
        let status = client.request("POST", "/api/v1/write", &HEADERS, &body).unwrap().status;
        assert!([204, 400].contains(&status), "{status}");
    }
    assert_eq!(client.get("/-/ready").unwrap().status, 200);
}

/// A client that still sends its body when the refusal comes must not lose it to the end of the connection.
#[test]
fn who_still_sends_reads_why_he_is_refused() {
    let fresh = Fresh::start(&[]);
    let media = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = [b"query=1&x=".to_vec(), vec![b'x'; 24 << 20]].concat();
    for _ in 0..10 {
        let answer = fresh.client().request("POST", "/api/v1/query", &media, &body).unwrap();
        assert_eq!(answer.status, 413, "{}", answer.text());
    }
}
