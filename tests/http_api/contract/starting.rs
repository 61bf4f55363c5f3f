//! While the store is being opened: what answers already, and what the rest says.

use super::description::Description;
use kymo_server::http::router::rows;
use kymo_tests::http::Client;
use kymo_tests::process::{Process, free_address};
use kymo_tests::remote_write::{Request, TimeSeries, send};
use kymo_tests::server::Server;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::process::Command;
use std::time::Duration;

#[test]
fn only_the_early_routes_answer() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let program = env!("CARGO_BIN_EXE_kymo");
    let mut server = Server::start(program, &data, &[]);
    let series = TimeSeries::new("m", &[], vec![(crate::now_ms(), 1.0)]);
    assert_eq!(send(&mut server.client(), &Request::of(&[series]).compress()).unwrap().status, 204);
    server.kill();
    // A pipe in place of the log: the start waits at it until somebody writes into it.
    let log = std::fs::read_dir(data.join("wal")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(&log).unwrap();
    mknodat(CWD, &log, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();

    let address = free_address();
    let mut command = Command::new(program);
    command.arg("serve").arg(format!("--listen={address}")).arg(format!("--data={}", data.display()));
    let mut process = Process::start("kymo", command, &dir.path().join("starting.log")).unwrap();
    let mut client = Client::new(address).with_timeout(Duration::from_secs(10));
    process.wait_until(Duration::from_secs(30), || client.get("/-/healthy").is_ok_and(|r| r.status == 200));
    // The first look at the log is for its format. There is nothing in it, and the second look, to read it, waits again.
    drop(std::fs::File::options().write(true).open(&log).unwrap());
    // The first segment is met a moment after the first answer.
    process.wait_until(Duration::from_secs(30), || {
        client.get("/-/ready").is_ok_and(|r| r.text().contains("the log is being read: segment 1 of 1 to 1"))
    });
    let description = Description::published();
    let early: Vec<&str> = rows().iter().filter(|row| row.early).map(|row| row.path).collect();
    for (path, method) in description.operations() {
        let target = path.replace("{name}", "job").replace("{id}", "1");
        let answer = client.request(&method.to_ascii_uppercase(), &target, &[], b"").unwrap();
        let at = format!("{method} {path}: {} {}", answer.status, answer.text());
        description.check(&path, &method, &answer).unwrap_or_else(|why| panic!("{at}: {why}"));
        if early.contains(&path.as_str()) {
            assert_eq!(answer.status == 503, path == "/-/ready", "{at}");
            continue;
        }
        let told = (answer.status, answer.header("x-prometheus-stopping"), answer.header("retry-after"));
        assert_eq!(told, (503, Some("false"), Some("5")), "{at}");
        assert_eq!(answer.text(), "Service Unavailable: the server is starting\n", "{at}");
    }
    let replay = client.get("/api/v1/status/walreplay").unwrap().json().unwrap();
    assert_eq!(replay["data"], serde_json::json!({"min": 1, "max": 1, "current": 1}));
    assert!(!process.output().contains("panicked"), "{}", process.output());
    process.kill();
}
