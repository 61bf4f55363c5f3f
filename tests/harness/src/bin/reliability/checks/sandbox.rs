//! A sandbox: the server as a user without rights, on a file system of which only its data directory can be written to.

use super::access::names;
use super::measure::{Subject, fill, metric};
use super::{Check, Figures, Place, Way};
use kymo_tests::http::{Client, escape};
use kymo_tests::process::find_program;
use kymo_tests::server::{Launch, Product, Server};
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The checks of this group.
pub(super) const CHECKS: &[Check] = &[Check {
    number: "R52",
    name: "sandbox",
    what: "the life of a store as nobody, with everything but its directory read-only",
    way: Way::Server(sandbox),
}];

/// The user that owns nothing.
const NOBODY: u32 = 65_534;
const TOOLS: [&str; 4] = ["unshare", "mount", "setpriv", "strace"];

/// Carried out in a mount namespace of its own: `$0` becomes a mount, all others are made read-only, and what follows is run as
/// nobody. A mount that cannot be made so is named; the proof shows whether it matters.
const CLOSE: &str = r#"
mount --bind "$0" "$0" || exit 90
while read -r _ at _; do
  at=$(printf '%b' "$at")
  [ "$at" = "$0" ] || mount -o remount,bind,ro "$at" || echo "stays as it is: $at" >&2
done < /proc/self/mounts
exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \
  --inh-caps=-all --ambient-caps=-all --bounding-set=-all "$@"
"#;

/// What a process inside finds out about itself. `$0` is the data directory, `$1` a name where everybody may write, outside.
const PROVE: &str = r#"
grep -E '^(Uid|Gid|Groups|CapPrm|CapEff|CapBnd|NoNewPrivs):' /proc/self/status | tr -s '\t ' ' '
touch "$0/inside" && rm "$0/inside" && echo "inside: written"
LC_ALL=C touch "$1" 2>&1 || echo "outside: refused"
"#;

/// What [`PROVE`] must print, word for word but for the message of `touch`.
const PROOF: [&str; 9] = [
    "Uid: 65534 65534 65534 65534",
    "Gid: 65534 65534 65534 65534",
    "Groups:",
    "CapPrm: 0000000000000000",
    "CapEff: 0000000000000000",
    "CapBnd: 0000000000000000",
    "NoNewPrivs: 1",
    "inside: written",
    "outside: refused",
];

/// Calls that change what a name stands for, beside those that open for writing.
const CHANGING: [&str; 15] = [
    "creat(",
    "mkdir",
    "rmdir(",
    "rename",
    "unlink",
    "link",
    "symlink",
    "mknod",
    "truncate(",
    "chmod",
    "fchmodat",
    "chown",
    "fchownat",
    "utime",
    "setxattr(",
];

/// Where the server is shut in.
struct Sandbox {
    program: PathBuf,
    data: PathBuf,
    trace: PathBuf,
    log: PathBuf,
}

impl Sandbox {
    /// Makes the places, and a copy of the program that everybody may run.
    fn make(place: &Place<'_>) -> Result<Self, String> {
        if let Some(missing) = TOOLS.into_iter().find(|tool| find_program(tool).is_none()) {
            return Err(format!("{missing} is not installed"));
        }
        if !rustix::process::geteuid().is_root() {
            return Err("only root may make a mount namespace and become another user".to_owned());
        }
        let text = |e: std::io::Error| format!("the sandbox: {e}");
        // Names in the watch are whole ones.
        let dir = place.dir.canonicalize().map_err(text)?;
        let at = |name: &str| dir.join(name);
        let sandbox =
            Self { program: at("kymo"), data: at("data"), trace: at("trace"), log: at("server.log") };
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).map_err(text)?;
        fs::copy(place.program, &sandbox.program).map_err(text)?;
        fs::set_permissions(&sandbox.program, Permissions::from_mode(0o755)).map_err(text)?;
        fs::create_dir(&sandbox.data).map_err(text)?;
        chown(&sandbox.data, Some(NOBODY), Some(NOBODY)).map_err(text)?;
        Ok(sandbox)
    }

    /// The command line before that of a program that is shut in.
    fn prefix(&self) -> Vec<String> {
        let data = self.data.display().to_string();
        let line = ["unshare", "--mount", "--propagation", "private", "sh", "-c", CLOSE, &data];
        line.map(str::to_owned).to_vec()
    }

    /// The same under the eyes of `strace`. It watches as a child, so that signals to the process that is started reach the server.
    fn watched(&self) -> Vec<String> {
        let trace = self.trace.display().to_string();
        let calls =
            ["strace", "-D", "-f", "-q", "-A", "-s", "4096", "-e", "trace=%file", "-e", "signal=none"];
        let line = calls.into_iter().chain(["-o", &trace]).map(str::to_owned);
        line.chain(self.prefix()).collect()
    }

    /// Shows that it is one: a process inside is nobody, without rights, writes to the data and nowhere else.
    fn prove(&self) -> Result<(), String> {
        let outside = format!("/var/tmp/kymo-sandbox-{}", std::process::id());
        let mut line = self.prefix();
        line.extend(["sh", "-c", PROVE].map(str::to_owned));
        line.extend([self.data.display().to_string(), outside.clone()]);
        let output =
            Command::new(&line[0]).args(&line[1..]).output().map_err(|e| format!("{}: {e}", line[0]))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let left = fs::remove_file(&outside).is_ok();
        let lacks = PROOF.into_iter().find(|wanted| !said.lines().any(|line| line.trim() == *wanted));
        match lacks {
            None if !left && said.contains("Read-only file system") => Ok(()),
            lacks => Err(format!(
                "the sandbox is none here, without {:?}: {said} {}",
                lacks.unwrap_or("a read-only file system"),
                String::from_utf8_lossy(&output.stderr)
            )),
        }
    }

    /// What the server did with names of files, when the watch of process `id` has ended.
    fn lines(&self, id: u32) -> Result<Vec<String>, String> {
        let began = Instant::now();
        loop {
            let bytes = fs::read(&self.trace).map_err(|e| format!("the watch: {e}"))?;
            let text = String::from_utf8_lossy(&bytes);
            let is_end = |line: &str| line.starts_with(&format!("{id} ")) && line.contains("+++ exited");
            if text.lines().any(is_end) {
                return Ok(self.of_server(&text));
            }
            if began.elapsed() > Duration::from_secs(20) {
                return Err("strace does not see the end of the server".to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The lines behind the start of the server, of each of its lives; those before are of who shuts it in.
    fn of_server(&self, text: &str) -> Vec<String> {
        let (mut is_server, mut lines) = (false, Vec::new());
        for line in text.lines() {
            if line.contains(" execve(") {
                is_server = names(line).next().is_some_and(|name| Path::new(name) == self.program);
            } else if is_server && !line.contains("+++") {
                lines.push(line.to_owned());
            }
        }
        lines
    }
}

/// Whether a line of `strace` is of a call that would change something, carried out or not.
fn is_writing(line: &str) -> bool {
    let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
    let opens = call.starts_with("open")
        && ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"].iter().any(|f| line.contains(f));
    opens || CHANGING.iter().any(|name| call.starts_with(name))
}

/// The answers that must be the same in another life.
fn answers(client: &mut Client, last: i64) -> Result<Vec<String>, String> {
    let (all, time) = (escape("{__name__=~\"load_metric.*\"}"), last / 1_000);
    let targets = [
        format!("/api/v1/query?query=count({all})&time={time}&nocache=1"),
        format!("/api/v1/query?query=sum by (job)(rate({all}[5m]))&time={time}&nocache=1")
            .replace(' ', "%20"),
        format!("/api/v1/export?match[]={all}"),
        "/api/v1/label/instance/values".to_owned(),
    ];
    let mut all = Vec::new();
    for target in targets {
        let answer = client.get(&target).map_err(|e| format!("{target}: {e}"))?;
        if answer.status != 200 {
            return Err(format!("{target}: {} {}", answer.status, answer.text()));
        }
        all.push(answer.text());
    }
    Ok(all)
}

/// The number of series that there are.
fn count(client: &mut Client, last: i64) -> String {
    let all = escape("count({__name__=~\"load_metric.*\"})");
    let answer = client.get(&format!("/api/v1/query?query={all}&time={}&nocache=1", last / 1_000));
    let json = answer.ok().and_then(|answer| answer.json().ok()).unwrap_or_default();
    json["data"]["result"][0]["value"][1].as_str().unwrap_or("none").to_owned()
}

/// Steps, and those of them that went wrong.
#[derive(Default)]
struct Steps {
    count: usize,
    wrong: Vec<&'static str>,
}

impl Steps {
    fn take(&mut self, name: &'static str, went_well: bool) {
        self.count += 1;
        if !went_well {
            self.wrong.push(name);
        }
    }

    /// The server's own figures are there and tell of nothing bad.
    fn look_at_metrics(&mut self, name: &'static str, client: &mut Client) {
        let failures =
            ["wal_failures_total", "flush_failures_total", "compaction_failures_total", "blocks_damaged"];
        let bad = |what: &&str| metric(client, &format!("kymo_storage_{what} ")) != 0.0;
        let is_bad = failures.iter().any(bad);
        self.take(name, !is_bad && metric(client, "kymo_storage_writable ") == 1.0);
    }

    /// An orderly end.
    fn end(&mut self, name: &'static str, server: &mut Server) {
        let ended = server.terminate(Duration::from_secs(30));
        self.take(name, ended.is_some_and(|status| status.code() == Some(0)));
    }
}

/// Series that are written, and how many of them are of the job that is deleted.
const SERIES: usize = 194;
const DELETED: usize = 97;

/// The life of a store; gives the process ids of the server's two lives.
fn live(server: &mut Server, steps: &mut Steps) -> Result<[u32; 2], String> {
    let order = |client: &mut Client, what: &str| {
        let answer = client.request("POST", &format!("/api/v1/admin/tsdb/{what}"), &[], &[]);
        answer.map_or(0, |answer| answer.status)
    };
    let mut client = server.client();
    steps.take("ready", client.get("/-/ready").is_ok_and(|answer| answer.status == 200));
    let last = fill(Subject::from(&*server), SERIES, 20, 15_000)?;
    steps.take("write", true);
    steps.take("query", count(&mut client, last) == SERIES.to_string());
    steps.take("delete", order(&mut client, "delete_series?match[]=%7Bjob%3D%22job-0%22%7D") == 204);
    let remain = (SERIES - DELETED).to_string();
    steps.take("query without what is deleted", count(&mut client, last) == remain);
    steps.take("snapshot", order(&mut client, "snapshot") == 200);
    let is_flushed = metric(&mut client, "kymo_storage_flushes_total ") > 0.0;
    steps.take("flush", is_flushed && metric(&mut client, "kymo_storage_blocks ") > 0.0);
    steps.take("merge", order(&mut client, "clean_tombstones") == 204);
    // What comes now is in the log only when it ends.
    let line = format!("sandbox_later 1 {last}\n");
    let later = client.request("POST", "/api/v1/import/prometheus", &[], line.as_bytes());
    steps.take("write after the flush", later.is_ok_and(|answer| answer.status == 204));
    steps.look_at_metrics("metrics", &mut client);
    let before = answers(&mut client, last)?;
    let first = server.id();
    steps.end("end", server);
    server.restart();
    let mut client = server.client();
    steps.take("start again", client.get("/-/ready").is_ok_and(|answer| answer.status == 200));
    steps.take("same answers", answers(&mut client, last)? == before);
    let later = client.get(&format!("/api/v1/query?query=sandbox_later&time={}", last / 1_000));
    steps.take("what was in the log", later.is_ok_and(|answer| answer.text().contains("sandbox_later")));
    steps.look_at_metrics("metrics of the second life", &mut client);
    let second = server.id();
    steps.end("second end", server);
    Ok([first, second])
}

fn sandbox(place: &Place<'_>) -> Result<Figures, String> {
    let sandbox = Sandbox::make(place)?;
    sandbox.prove()?;
    let mut server = Launch::new(Product::Kymo, &sandbox.program, &sandbox.data, &sandbox.log)
        .arguments(&["--web-enable-admin-api"])
        .variable("KYMO_FREE_SPACE_MIN", "0")
        .by(sandbox.watched())
        .try_start()?;
    let mut steps = Steps::default();
    let ids = live(&mut server, &mut steps)?;
    let mut lines = Vec::new();
    for id in ids {
        lines = sandbox.lines(id)?;
    }
    let is_outside = |name: &&str| !Path::new(name).starts_with(&sandbox.data) || name.contains("/../");
    let writing: Vec<&String> = lines.iter().filter(|line| is_writing(line)).collect();
    // Also what was only tried.
    let outside: BTreeSet<&str> = writing.iter().flat_map(|line| names(line)).filter(is_outside).collect();
    let output = server.output();
    let errors = output.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked")).count();
    let kept = steps.wrong.is_empty() && outside.is_empty() && !writing.is_empty() && errors == 0;
    let text = format!(
        "ok={} steps={} wrong={}{} calls_watched={} writing={} written_outside={}{} errors={errors}",
        u8::from(kept),
        steps.count,
        steps.wrong.len(),
        steps.wrong.iter().map(|name| format!(" {name:?}")).collect::<String>(),
        lines.len(),
        writing.len(),
        outside.len(),
        outside.iter().map(|name| format!(" {name:?}")).take(5).collect::<String>(),
    );
    Ok(Figures::new(text, kept))
}
