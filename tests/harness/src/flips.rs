//! Single bits flipped in the files of a store at rest: what it answers then, and whether it says so.

use crate::http::Client;
use crate::load::Load;
use crate::remote_write::{Request, send};
use crate::rng::Rng;
use crate::server::{Launch, Product, Server};
use crate::steady::Steady;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Series of the store, and samples of each in one window.
const SERIES: usize = 100;
const STEPS: i64 = 500;
const STEP_MS: i64 = 15_000;
/// From one window to the next.
const WINDOW_MS: i64 = 20 * 3_600_000;
/// How long a start may take.
const START_LIMIT: Duration = Duration::from_secs(30);
/// What the load's series have in common.
const SELECTOR: &str = "{cluster=\"eu-west-1\"}";
/// What is deleted of the second window.
const DELETED: &str = "{cluster=\"eu-west-1\",number=~\".*7\"}";

/// A kind of file, and how many of a hundred flips it gets.
pub type Kind = (&'static str, u64);

/// The kinds of file a product has.
pub fn kinds(product: Product) -> &'static [Kind] {
    match product {
        Product::Kymo => &[("blocks/", 60), ("head/", 12), ("wal/", 12), ("MANIFEST", 8), ("TOMBSTONES", 8)],
        Product::Prometheus => &[("chunks/", 50), ("/index", 50)],
        Product::VictoriaMetrics => &[("values.bin", 40), ("timestamps.bin", 30), ("/index.bin", 30)],
    }
}

type Points = BTreeMap<String, String>;
type Answer = BTreeMap<String, Points>;

/// A store at rest, and what it answers.
#[derive(Debug)]
pub struct Rest {
    launch: fn(&Path, &Path, &Path) -> Launch,
    program: PathBuf,
    golden: PathBuf,
    work: PathBuf,
    kinds: &'static [Kind],
    /// The ends of the windows, in milliseconds.
    windows: Vec<i64>,
    answers: Vec<Answer>,
}

/// What one flip came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Every answer was the same.
    Nothing,
    /// What was not the same came with words that name the file.
    Reported,
    /// An answer was another one, and did not say so.
    Silent,
    /// The server did not start.
    Refused,
}

/// What words say of where a flip is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    /// The file by its name.
    File,
    /// The file, and a byte behind the flipped one.
    Behind,
    /// The file, and the flipped byte or one before it: where the damaged part begins.
    Place,
}

/// What many flips came to.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// By kind: flips without effect, reported, silent, refused.
    pub kinds: BTreeMap<&'static str, [u64; 4]>,
    /// By kind, how those that were reported were told: by the file alone, with an offset behind the flip, with one at or before it.
    pub told: BTreeMap<&'static str, [u64; 3]>,
    /// Values that nobody wrote, in whatever answer.
    pub wrong: u64,
    /// The parts of the series of a window that were served whole, in percent, of windows that were not served as before.
    pub served_pct: Vec<f64>,
    /// Where something went wrong.
    pub notes: Vec<String>,
}

impl Tally {
    /// How many flips came to that.
    pub fn count(&self, found: Found) -> u64 {
        self.kinds.values().map(|counts| counts[found as usize]).sum()
    }

    /// How many flips in files of these kinds were reported without the place where the damage begins.
    pub fn without_place(&self, kinds: &[&str]) -> u64 {
        let of_kinds = self.told.iter().filter(|(kind, _)| kinds.contains(kind));
        of_kinds.map(|(_, told)| told[Told::File as usize] + told[Told::Behind as usize]).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flips: u64 = self.kinds.values().flatten().sum();
        let [nothing, reported, silent, refused] =
            [Found::Nothing, Found::Reported, Found::Silent, Found::Refused].map(|found| self.count(found));
        write!(f, "flips={flips} no_effect={nothing} reported={reported} silent={silent} refused={refused}")?;
        let mean = self.served_pct.iter().sum::<f64>() / self.served_pct.len().max(1) as f64;
        let least = self.served_pct.iter().copied().fold(100.0, f64::min);
        let told = |told: Told| self.told.values().map(|counts| counts[told as usize]).sum::<u64>();
        let [file_only, behind, with_offset] = [Told::File, Told::Behind, Told::Place].map(told);
        write!(f, " with_offset={with_offset} file_only={file_only} offset_behind={behind}")?;
        write!(
            f,
            " wrong_values={} served_pct_of_hit_windows={mean:.1} served_pct_min={least:.1}",
            self.wrong
        )?;
        for (kind, [nothing, reported, silent, refused]) in &self.kinds {
            write!(f, " {}={nothing}/{reported}/{silent}/{refused}", kind.trim_matches('/'))?;
        }
        Ok(())
    }
}

impl Rest {
    /// Fills a store of `product` in `dir` and ends it.
    ///
    /// # Errors
    /// Files cannot be moved.
    ///
    /// # Panics
    /// The server does not start, or refuses what it is sent.
    pub fn make(product: Product, program: &Path, dir: &Path, seed: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let (golden, work) = (dir.join("golden"), dir.join("work"));
        let launch = match product {
            Product::Kymo => launch_kymo,
            Product::Prometheus => launch_prometheus,
            Product::VictoriaMetrics => launch_victoria_metrics,
        };
        let mut server = launch(program, &golden, &dir.join("golden.log")).start();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
        let count = if product == Product::Kymo { 5 } else { 1 };
        let mut load = Load::new(seed, SERIES);
        let mut http = server.client();
        let mut windows = Vec::new();
        for window in 0..count {
            let base = now - (count - window) * WINDOW_MS;
            fill(&mut http, &mut load, base);
            windows.push(base + STEPS * STEP_MS);
            match product {
                // The last window stays in the log.
                Product::Kymo if window + 1 < count => order(&mut http, "/api/v1/admin/tsdb/snapshot"),
                Product::Prometheus => order(&mut http, "/api/v1/admin/tsdb/snapshot"),
                _ => {}
            }
        }
        if product == Product::Kymo {
            let time = |ms: i64| format!("{:.3}", ms as f64 / 1000.0);
            let (start, end) = (time(windows[1] - STEPS * STEP_MS), time(windows[1]));
            let form = [("match[]", DELETED), ("start", &start), ("end", &end)];
            let answer = http.post_form("/api/v1/admin/tsdb/delete_series", &form)?;
            assert_eq!(answer.status, 204, "{}", answer.text());
            // The last request of a log that was cut off cannot be told from one that was never finished: it is not judged.
            let last = Steady::new(seed, 1, 1).send_one(&mut http, 9, 0);
            assert!(last.status.is_some_and(|c| c < 300), "the last write is taken");
        }
        if product == Product::VictoriaMetrics {
            // It writes its memory out at an orderly end only.
            server.terminate(Duration::from_secs(30));
        }
        server.kill();
        settle(product, &golden)?;
        let kinds = kinds(product);
        let mut rest =
            Self { launch, program: program.to_owned(), golden, work, kinds, windows, answers: Vec::new() };
        let server = rest.start_copy().unwrap_or_else(|why| panic!("{why}"));
        let mut http = server.client();
        rest.answers = rest.windows.iter().map(|end| ask(&mut http, *end).expect("an answer").0).collect();
        assert!(rest.answers.iter().all(|answer| answer.len() >= SERIES / 2), "hardly anything is there");
        Ok(rest)
    }

    /// Flips `count` single bits, each in a fresh copy, and asks for all that was written.
    ///
    /// # Errors
    /// Files cannot be copied.
    ///
    /// # Panics
    /// A server that has started does not answer.
    pub fn flip(&self, count: u64, rng: &mut Rng) -> io::Result<Tally> {
        let mut tally = Tally::default();
        let all = files(&self.golden)?;
        for number in 0..count {
            let kind = self.kind_of(number);
            let place = |path: &Path| path.strip_prefix(&self.golden).unwrap_or(path).to_owned();
            let matching: Vec<PathBuf> =
                all.iter().map(|path| place(path)).filter(|path| is_kind(path, kind)).collect();
            assert!(!matching.is_empty(), "no file of kind {kind}");
            let file = &matching[rng.below(matching.len() as u64) as usize];
            let bytes = fs::read(self.golden.join(file))?;
            let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
            let (offset, bit) = (rng.below(used as u64) as usize, rng.below(8));
            copy(&self.golden, &self.work)?;
            let mut flipped = bytes;
            flipped[offset] ^= 1 << bit;
            fs::write(self.work.join(file), flipped)?;
            let (found, told) = self.look(file, &mut tally, offset);
            tally.kinds.entry(kind).or_default()[found as usize] += 1;
            if let (Found::Reported, Some(told)) = (found, told) {
                tally.told.entry(kind).or_default()[told as usize] += 1;
            }
        }
        Ok(tally)
    }

    fn kind_of(&self, number: u64) -> &'static str {
        let total: u64 = self.kinds.iter().map(|kind| kind.1).sum();
        // Spread over the run, so that a short one meets every kind.
        let mut place = number * 37 % total;
        for (kind, part) in self.kinds {
            if place < *part {
                return kind;
            }
            place -= part;
        }
        self.kinds[0].0
    }

    fn start_copy(&self) -> Result<Server, String> {
        copy(&self.golden, &self.work).map_err(|e| e.to_string())?;
        self.start()
    }

    fn start(&self) -> Result<Server, String> {
        let log = self.work.with_extension("log");
        let _ = fs::remove_file(&log);
        (self.launch)(&self.program, &self.work, &log).within(START_LIMIT).try_start()
    }

    /// What a flip came to, and the least that words of it say.
    fn look(&self, file: &Path, tally: &mut Tally, offset: usize) -> (Found, Option<Told>) {
        let mut server = match self.start() {
            Ok(server) => server,
            Err(why) => {
                let last = why.lines().last().unwrap_or_default();
                tally.notes.push(format!("{}@{offset} refused: {last}", file.display()));
                return (Found::Refused, None);
            }
        };
        let mut http = server.client();
        let (mut found, mut least) = (Found::Nothing, None);
        for (end, golden) in self.windows.iter().zip(&self.answers) {
            let (got, words) = match ask(&mut http, *end) {
                Ok(answered) => answered,
                Err(error) => (Answer::new(), vec![error]),
            };
            if got == *golden {
                continue;
            }
            let whole = golden.iter().filter(|(labels, points)| got.get(*labels) == Some(points)).count();
            tally.served_pct.push(whole as f64 * 100.0 / golden.len() as f64);
            tally.wrong += wrong_values(golden, &got);
            if let Some(told) = words.iter().filter_map(|text| told(text, file, offset)).max() {
                found = if found == Found::Silent { found } else { Found::Reported };
                least = Some(least.map_or(told, |least: Told| least.min(told)));
            } else {
                let missing = golden.len() - whole;
                let note = format!("{}@{offset}: {missing} series differ, said {words:?}", file.display());
                tally.notes.push(note);
                found = Found::Silent;
            }
        }
        server.kill();
        (found, least)
    }
}

/// What the words say of a flip at `offset` of the file, if they name the file; a peer that says anything at all is given credit for it.
fn told(words: &str, file: &Path, offset: usize) -> Option<Told> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let is_ours = [".block", ".ckpt", ".wal"].iter().any(|end| name.ends_with(end))
        || ["MANIFEST", "TOMBSTONES"].contains(&&*name);
    if !is_ours {
        return Some(Told::File);
    }
    // Of several places in a file each is told behind the file's name, up to the next.
    let said = words.match_indices(&*name).map(|(at, _)| {
        let behind = &words[at + name.len()..];
        let behind = behind.split(';').next().and_then(|one| one.split(&*name).next()).unwrap_or_default();
        let number = behind.split_once(" at ").map(|(_, rest)| rest);
        let number = number.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        match number {
            Some(place) if offset >= place => Told::Place,
            Some::<usize>(_) => Told::Behind,
            None => Told::File,
        }
    });
    said.max()
}

/// Values at times at which another one was written.
fn wrong_values(golden: &Answer, got: &Answer) -> u64 {
    let mut wrong = 0;
    for (labels, points) in got {
        let Some(right) = golden.get(labels) else { continue };
        let differs = |(time, value): &(&String, &String)| right.get(*time).is_some_and(|r| r != *value);
        wrong += points.iter().filter(differs).count() as u64;
    }
    wrong
}

fn launch_kymo(program: &Path, data: &Path, log: &Path) -> Launch {
    let arguments = [
        "--web-enable-admin-api",
        "--compaction-percent=0",
        "--delete-reclaim-after=1000h",
        "--scrub-rate=0",
    ];
    Launch::new(Product::Kymo, program, data, log).arguments(&arguments)
}

fn launch_prometheus(program: &Path, data: &Path, log: &Path) -> Launch {
    Launch::new(Product::Prometheus, program, data, log).arguments(&["--web.enable-admin-api"])
}

fn launch_victoria_metrics(program: &Path, data: &Path, log: &Path) -> Launch {
    Launch::new(Product::VictoriaMetrics, program, data, log)
}

fn fill(http: &mut Client, load: &mut Load, base: i64) {
    let mut body = Vec::new();
    for step in 1..=STEPS {
        body.extend(load.step(base + step * STEP_MS));
        if step % 50 == 0 {
            let answer = send(http, &Request::of(&body).compress()).expect("an answer");
            assert!(answer.status < 300, "{} {}", answer.status, answer.text());
            body.clear();
        }
    }
}

fn order(http: &mut Client, target: &str) {
    let answer = http.request("POST", target, &[], &[]).expect("an answer");
    assert!(answer.status < 300, "{} {}", answer.status, answer.text());
}

/// Leaves the files that are to be damaged, and nothing beside them.
fn settle(product: Product, golden: &Path) -> io::Result<()> {
    let snapshots = golden.join("snapshots");
    if product == Product::Prometheus {
        let made = fs::read_dir(&snapshots)?.next().transpose()?.map(|entry| entry.path());
        let aside = golden.with_extension("blocks");
        fs::rename(made.unwrap_or_default(), &aside)?;
        fs::remove_dir_all(golden)?;
        return fs::rename(aside, golden);
    }
    if snapshots.is_dir() {
        fs::remove_dir_all(snapshots)?;
    }
    Ok(())
}

/// The samples of a window, and what else was said.
fn ask(http: &mut Client, end: i64) -> Result<(Answer, Vec<String>), String> {
    let query = format!("{SELECTOR}[{}ms]", STEPS * STEP_MS);
    let time = format!("{:.3}", end as f64 / 1000.0);
    let form = [("query", &*query), ("time", &*time), ("nocache", "1")];
    let answer = http.post_form("/api/v1/query", &form).map_err(|e| e.to_string())?;
    let json = answer.json()?;
    if answer.status != 200 {
        return Err(json["error"].as_str().unwrap_or_default().to_owned());
    }
    let mut all = Answer::new();
    for series in json["data"]["result"].as_array().into_iter().flatten() {
        let points = series["values"].as_array().into_iter().flatten();
        let points = points.map(|point| (point[0].to_string(), point[1].to_string())).collect();
        all.insert(series["metric"].to_string(), points);
    }
    let words = json["warnings"].as_array().into_iter().flatten();
    Ok((all, words.filter_map(|w| w.as_str().map(ToOwned::to_owned)).collect()))
}

/// All files below `dir` that hold something.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if fs::metadata(&path)?.len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn is_kind(path: &Path, kind: &str) -> bool {
    format!("/{}", path.display()).contains(kind)
}

/// Makes `to` a copy of `from`, without what it was.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    copy_into(from, to)
}

fn copy_into(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_into(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// What flips in the log came to.
#[derive(Debug, Clone, Default)]
pub struct LogTally {
    /// Samples lost by each flip.
    pub lost: Vec<u64>,
    /// The most requests that one flip took samples of.
    pub requests_max: u64,
    /// Flips that took something and were not reported.
    pub silent: u64,
    /// Flips in the last request: nothing follows it that would tell it from one that was never finished.
    pub last: u64,
    /// Starts refused.
    pub refused: u64,
    /// Values that nobody wrote.
    pub wrong: u64,
    /// Where something went wrong.
    pub notes: Vec<String>,
}

impl fmt::Display for LogTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lost = self.lost.clone();
        lost.sort_unstable();
        let at = |place: usize| lost.get(place).copied().unwrap_or(0);
        let (min, median, max) = (at(0), at(lost.len() / 2), lost.last().copied().unwrap_or(0));
        let Self { requests_max, silent, last, refused, wrong, .. } = self;
        write!(f, "flips={} lost_samples_min={min} median={median} max={max}", lost.len())?;
        write!(f, " requests_max={requests_max} silent={silent} in_last_request={last} refused={refused}")?;
        write!(f, " wrong_values={wrong}")
    }
}

/// Writes `requests` of 100 samples, kills the server, and flips `count` single bits in its log, each in a fresh copy.
///
/// # Errors
/// Files cannot be copied.
///
/// # Panics
/// The server does not start, refuses what it is sent, or has no log.
pub fn flip_log(
    product: Product,
    program: &Path,
    dir: &Path,
    (requests, count): (u64, u64),
    rng: &mut Rng,
) -> io::Result<LogTally> {
    fs::create_dir_all(dir)?;
    let (golden, work) = (dir.join("golden"), dir.join("work"));
    let launch = |data: &Path| Launch::new(product, program, data, &data.with_extension("log"));
    let mut server = launch(&golden).start();
    let load = Steady::new(rng.next_u64(), 1, 100);
    let mut http = server.client();
    let sent: Vec<_> = (0..requests).map(|request| load.send_one(&mut http, 0, request)).collect();
    assert!(sent.iter().all(|s| s.status.is_some_and(|c| c < 300)), "a write was refused");
    server.kill();
    let segments: Vec<PathBuf> = files(&golden)?
        .into_iter()
        .filter(|p| is_kind(p.strip_prefix(&golden).unwrap_or(p), "/wal/"))
        .collect();
    let used = |path: &PathBuf| -> io::Result<(PathBuf, Vec<u8>)> {
        let mut bytes = fs::read(path)?;
        bytes.truncate(bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1));
        Ok((path.clone(), bytes))
    };
    let segments: Vec<_> = segments.iter().map(used).collect::<io::Result<Vec<_>>>()?;
    let total: usize = segments.iter().map(|s| s.1.len()).sum();
    assert!(total > 0, "no log");
    let mut tally = LogTally::default();
    for _ in 0..count {
        let mut place = rng.below(total as u64) as usize;
        let hit = segments.iter().find(|(_, bytes)| {
            let inside = place < bytes.len();
            place -= if inside { 0 } else { bytes.len() };
            inside
        });
        let Some((path, _)) = hit else { continue };
        copy(&golden, &work)?;
        let target = work.join(path.strip_prefix(&golden).unwrap_or(path));
        let mut bytes = fs::read(&target)?;
        bytes[place] ^= 1 << rng.below(8);
        fs::write(&target, bytes)?;
        let _ = fs::remove_file(work.with_extension("log"));
        let mut server = match launch(&work).within(START_LIMIT).try_start() {
            Ok(server) => server,
            Err(why) => {
                tally.refused += 1;
                tally.lost.push(requests * load.series);
                tally.notes.push(format!("@{place} refused: {}", why.lines().last().unwrap_or_default()));
                continue;
            }
        };
        let mut http = server.client();
        let verdict = load.judge(&mut http, &sent);
        let is_reported = is_log_damage_reported(product, &mut http);
        let only_last = verdict.requests_hit == 1 && verdict.first_hit == Some(requests - 1);
        tally.lost.push(verdict.lost);
        tally.requests_max = tally.requests_max.max(verdict.requests_hit);
        tally.wrong += verdict.wrong;
        tally.last += u64::from(only_last);
        if verdict.lost > 0 && !is_reported && !only_last {
            tally.silent += 1;
            tally.notes.push(format!("@{place}: {} lost without a word", verdict.lost));
        }
        if verdict.requests_hit > 1 {
            tally.notes.push(format!("@{place} of {}: {} requests", path.display(), verdict.requests_hit));
        }
        server.kill();
    }
    Ok(tally)
}

/// Ours warns in its answers and counts; Prometheus counts.
fn is_log_damage_reported(product: Product, http: &mut Client) -> bool {
    let metrics = http.get("/metrics").map(|answer| answer.text()).unwrap_or_default();
    let counts = |name: &str| {
        let mut lines = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        lines.any(|value| value.trim().parse().is_ok_and(|v: f64| v > 0.0))
    };
    match product {
        Product::Kymo => {
            let answer = http.get("/api/v1/query?query=count(steady)").expect("an answer");
            let warns = answer.json().is_ok_and(|j| j["warnings"].as_array().is_some_and(|w| !w.is_empty()));
            warns && counts("kymo_storage_wal_lost_frames")
        }
        _ => counts("prometheus_tsdb_wal_corruptions_total"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_name_a_place() {
        let told = |words: &str, name: &str| told(words, Path::new(name), 100);
        let wal = "wal/0000000000000003.wal";
        let lost =
            "/d/wal: 3 requests of the log are lost (segments [3]: 0000000000000003.wal at 64: 1 are lost)";
        assert_eq!(told(lost, wal), Some(Told::Place));
        assert_eq!(told("/d/wal: 3 requests of the log are lost (segments [3])", wal), None);
        assert_eq!(told("0000000000000003.wal at 101: x", wal), Some(Told::Behind));
        let block = "a.block: section DICT at 7: checksum mismatch";
        assert_eq!(told(block, "blocks/a.block"), Some(Told::Place));
        assert_eq!(told(block, "blocks/b.block"), None);
        assert_eq!(told("TOMBSTONES: gone", "TOMBSTONES"), Some(Told::File));
        assert_eq!(told("anything", "chunks/000001"), Some(Told::File));
    }
}
