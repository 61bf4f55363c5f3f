//! The client libraries of InfluxDB 1 and 2 write lines to Kymo.

use crate::answers::now_ms;
use crate::program::kymo;
use kymo_tests::peers::{python, script};
use kymo_tests::process::run_to_end;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Samples by their labels.
type Found = BTreeMap<String, Vec<(i64, f64)>>;

#[test]
fn influx_clients_write_lines() {
    let Some(python) = python() else { return };
    for version in ["1", "2"] {
        let dir = tempfile::tempdir().unwrap();
        let server = kymo(dir.path(), "");
        let (started, now) = (now_ms(), now_ms() - 10_000);
        let mut command = script(&python, "influx_clients.py");
        let address = server.address();
        command.args([version, &address.ip().to_string(), &address.port().to_string(), &now.to_string()]);
        let told: Value = serde_json::from_str(&run_to_end(command, Duration::from_secs(60))).unwrap();
        let expected: Found = told
            .as_array()
            .unwrap()
            .iter()
            .map(|series| {
                let samples = series[1].as_array().unwrap().iter();
                // A sample without a time has that of its arrival, which `found` writes as 0.
                let samples = samples.map(|s| (s[0].as_i64().unwrap_or(0), s[1].as_f64().unwrap()));
                (series[0].to_string(), samples.collect())
            })
            .collect();
        let text = server.client().get("/api/v1/export?match[]=%7B__name__%3D~%22.%2B%22%7D").unwrap().text();
        let mut found = Found::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let times = line["timestamps"].as_array().unwrap().iter().map(|t| t.as_i64().unwrap());
            let values = line["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap());
            let times = times.map(|t| if t >= started { 0 } else { t });
            found.insert(line["metric"].to_string(), times.zip(values).collect());
        }
        assert_eq!(found, expected, "client {version}");
        assert!(found.len() > 10);
        println!("client {version}: {} series read back", found.len());
    }
}
