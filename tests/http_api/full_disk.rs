//! A disk that takes no more: the last row of what both versions of remote write answer.

use crate::{Fresh, count, now_ms};
use kymo_tests::remote_write::{self as v1, label_bytes};
use kymo_tests::remote_write_v2::{self as v2, written};
use kymo_tests::server::Server;
use std::os::unix::fs::PermissionsExt;

/// A server whose files cannot grow beyond 2 MiB: the system refuses the write that would, as on a full disk.
fn start_on_a_small_disk() -> Fresh {
    let dir = tempfile::tempdir().unwrap();
    let program = std::env::var("KYMO_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_kymo").to_owned());
    let script = dir.path().join("kymo");
    // In units of 512 bytes. The signal that comes with the refusal would end the process.
    let text = format!("#!/bin/sh\ntrap '' XFSZ\nulimit -f 4096\nexec '{program}' \"$@\"\n");
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    Fresh { server: Server::start_this(&script, &dir.path().join("data"), &[]), _dir: dir }
}

#[test]
fn nothing_of_a_request_is_stored_and_nothing_counted() {
    let fresh = start_on_a_small_disk();
    let mut client = fresh.client();
    let t = now_ms() - 60_000;
    let names: Vec<String> = (0..2_000).map(|i| format!("series-{i:05}-{}", i * 7919)).collect();
    let first = |metric: &str| {
        let mut request = v1::Request::new();
        for (i, name) in names.iter().enumerate() {
            request.push(&label_bytes(&[("__name__", metric), ("i", name.as_str())]), &[(t, i as f64 / 3.0)]);
        }
        request.compress()
    };
    let mut stored = 0;
    let refused = loop {
        let response = v1::send(&mut client, &first(&format!("m{stored}"))).unwrap();
        if response.status != 204 {
            break response;
        }
        stored += 1;
        assert!(stored < 200, "the disk takes everything");
    };
    assert_eq!((refused.status, written(&refused)), (500, None), "{}", refused.text());
    assert!(refused.text().contains("File too large"), "{}", refused.text());
    let mut second = v2::Request::new();
    for name in &names {
        second.push(&[("__name__", "second"), ("i", name)], &[(t, 0.1)]);
    }
    let response = v2::send(&mut client, &second.compress()).unwrap();
    assert_eq!((response.status, written(&response)), (500, Some([0; 3])), "{}", response.text());
    assert_eq!(count(&mut client, "second", t), 0);
    assert_eq!(count(&mut client, &format!("m{stored}"), t), 0);
    assert!(stored > 2, "{stored}");
    for metric in ["m0".to_owned(), format!("m{}", stored - 1)] {
        assert_eq!(count(&mut client, &metric, t), names.len(), "{metric}");
    }
    assert!(!fresh.server.output().contains("panicked"), "{}", fresh.server.output());
}
