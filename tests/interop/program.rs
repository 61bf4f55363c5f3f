//! The servers of a test: Kymo, and Prometheus in each version there is.

use kymo_tests::peers::{Peer, require};
use kymo_tests::server::Server;
use std::path::{Path, PathBuf};

/// A Prometheus.
pub(crate) struct Program {
    path: PathBuf,
    /// Version 3, which sends remote write 2.0 and reads streamed chunks.
    pub(crate) is_third: bool,
}

/// That of the system, and the one that `KYMO_PROMETHEUS` names.
pub(crate) fn every_prometheus() -> Vec<Program> {
    let own = require("prometheus").map(|path| Program { path, is_third: false });
    let other = std::env::var_os("KYMO_PROMETHEUS");
    let other = other.map(|path| Program { path: PathBuf::from(path), is_third: true });
    own.into_iter().chain(other).collect()
}

impl Program {
    /// Starts it with a configuration and its data below `dir`, which is made.
    pub(crate) fn start(&self, dir: &Path, configuration: &str, arguments: &[&str]) -> Peer {
        std::fs::create_dir_all(dir).unwrap();
        Peer::prometheus(&self.path, dir, configuration, arguments)
    }

    /// Starts it with its own address in place of `PROMETHEUS` in the configuration.
    pub(crate) fn start_watching_itself(&self, dir: &Path, configuration: &str) -> Peer {
        // The address is only known when it listens, so the target is set afterwards and the configuration reloaded.
        let first = configuration.replace("PROMETHEUS", "127.0.0.1:1");
        let peer = self.start(dir, &first, &["--web.enable-lifecycle"]);
        let configuration = configuration.replace("PROMETHEUS", &peer.address.to_string());
        std::fs::write(dir.join("prometheus.yml"), configuration).unwrap();
        assert_eq!(peer.client().request("POST", "/-/reload", &[], &[]).unwrap().status, 200);
        peer
    }

    /// The flag for what it does not do unless told to.
    pub(crate) fn features(&self) -> &'static str {
        if self.is_third {
            "--enable-feature=exemplar-storage"
        } else {
            "--enable-feature=exemplar-storage,native-histograms"
        }
    }

    /// The `remote_write` section that sends all there is to `kymo`, in the newest version of the protocol.
    pub(crate) fn remote_write(&self, kymo: &Server) -> String {
        let message = if self.is_third { "  protobuf_message: io.prometheus.write.v2.Request\n" } else { "" };
        let url = kymo.url("/api/v1/write");
        let metadata =
            if self.is_third { "" } else { "  metadata_config: {send: true, send_interval: 1s}\n" };
        format!(
            "remote_write:\n- url: '{url}'\n  send_exemplars: true\n  send_native_histograms: true\n{message}  \
             queue_config: {{batch_send_deadline: 200ms, min_backoff: 30ms, max_backoff: 200ms}}\n{metadata}"
        )
    }
}

/// A Kymo with its data and its configuration below `dir`, which is made.
pub(crate) fn kymo(dir: &Path, configuration: &str) -> Server {
    std::fs::create_dir_all(dir).unwrap();
    let file = dir.join("kymo.yml");
    std::fs::write(&file, configuration).unwrap();
    let config = format!("--config={}", file.display());
    Server::start(env!("CARGO_BIN_EXE_kymo"), &dir.join("data"), &[&config])
}
