//! Rot: bits that changed in files at rest, and the search for them.

use super::disk::{first_notes, kymo};
use super::{Check, Figures, Place, Way};
use kymo_tests::flips::{Found, Rest, flip_log};
use kymo_tests::load::Load;
use kymo_tests::remote_write::{Request, send};
use kymo_tests::rng::Rng;
use kymo_tests::server::Product;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The checks of this group.
pub(super) const CHECKS: &[Check] = &[
    Check { number: "R6", name: "walflip", what: "one bit flipped in the log", way: Way::Server(walflip) },
    Check {
        number: "R15",
        name: "blockflip",
        what: "one bit flipped in a file of any kind (kind=no effect/reported/silent/refused)",
        way: Way::Server(blockflip),
    },
    Check {
        number: "R17",
        name: "scrub",
        what: "rot in cold data is found without a question",
        way: Way::Server(scrub),
    },
];

/// Requests of 100 samples in the log that is damaged.
const LOG_REQUESTS: u64 = 400;

fn walflip(place: &Place<'_>) -> Result<Figures, String> {
    let mut rng = Rng::new(place.seed);
    let flips = place.count(10, 100);
    let mine = place.dir.join("kymo");
    let size = (LOG_REQUESTS, flips);
    let tally = flip_log(Product::Kymo, place.program, &mine, size, &mut rng).map_err(|e| e.to_string())?;
    let kept = tally.requests_max <= 1 && tally.silent + tally.refused + tally.wrong == 0;
    let mut figures = Figures::new(format!("{tally}{}", first_notes(&tally.notes)), kept);
    if place.peers {
        let peer = Product::Prometheus;
        let line = match peer.installed() {
            Some(program) => {
                let (dir, size) = (place.dir.join("peer"), (LOG_REQUESTS, place.count(5, 30)));
                let tally = flip_log(peer, &program, &dir, size, &mut rng);
                tally.map_or_else(|e| format!("not run: {e}"), |tally| tally.to_string())
            }
            None => "not run: not installed".to_owned(),
        };
        figures.beside.push((peer.name().to_owned(), line));
        figures.beside.push(("VictoriaMetrics".to_owned(), "has no log".to_owned()));
    }
    Ok(figures)
}

fn blockflip(place: &Place<'_>) -> Result<Figures, String> {
    let mut rng = Rng::new(place.seed);
    let text = |e: std::io::Error| format!("{e}");
    let rest = Rest::make(Product::Kymo, place.program, &place.dir.join("kymo"), place.seed).map_err(text)?;
    let tally = rest.flip(place.count(40, 1_000), &mut rng).map_err(text)?;
    let bad = tally.count(Found::Silent) + tally.count(Found::Refused) + tally.wrong;
    // A checkpoint is checked in sections that are not of a fixed place: of it the file alone is told.
    let bad = bad + tally.without_place(&["blocks/", "wal/", "MANIFEST", "TOMBSTONES"]);
    // The part that is served whole is not judged: a flip costs a page, and the blocks here have less series than one page holds.
    let mut figures = Figures::new(format!("{tally}{}", first_notes(&tally.notes)), bad == 0);
    for product in Product::PEERS.into_iter().filter(|_| place.peers) {
        let line = match product.installed() {
            Some(program) => {
                let rest = Rest::make(product, &program, &place.dir.join(product.name()), place.seed);
                let tally = rest.and_then(|rest| rest.flip(place.count(10, 100), &mut rng));
                tally.map_or_else(|e| format!("not run: {e}"), |tally| tally.to_string())
            }
            None => "not run: not installed".to_owned(),
        };
        figures.beside.push((product.name().to_owned(), line));
    }
    Ok(figures)
}

/// The value of one of the server's own metrics.
pub(super) fn metric(http: &mut kymo_tests::http::Client, name: &str) -> f64 {
    let text = http.get("/metrics").map(|answer| answer.text()).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
    value.unwrap_or(0.0)
}

/// What the search for rot may read in a second, in MiB.
const SCRUB_RATE_MIB_S: u64 = 256;

fn scrub(place: &Place<'_>) -> Result<Figures, String> {
    let rate = format!("--scrub-rate={SCRUB_RATE_MIB_S}MiB");
    let mut server = kymo(place, &[&rate, "--web-enable-admin-api", "--compaction-percent=0"]);
    let mut http = server.client();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| e.to_string())?.as_millis() as i64;
    let mut load = Load::new(place.seed, 2_000);
    let mut rng = Rng::new(place.seed);
    for flush in 0..place.count(2, 8) {
        for step in 0..20 {
            let mut body = Vec::new();
            for inner in 0..10 {
                let mut rows = load.step(now - 7_200_000 + ((flush * 20 + step) * 10 + inner) * 2_000);
                // Values that no codec makes small: the blocks are to be large.
                for row in &mut rows {
                    row.samples[0].1 = rng.unit();
                }
                body.extend(rows);
            }
            let answer = send(&mut http, &Request::of(&body).compress()).map_err(|e| e.to_string())?;
            assert!(answer.status < 300, "{}", answer.text());
        }
        let flushed = http.request("POST", "/api/v1/admin/tsdb/snapshot", &[], &[]);
        assert!(flushed.is_ok_and(|answer| answer.status < 300), "a flush is carried out");
    }
    let blocks: Vec<PathBuf> = std::fs::read_dir(place.dir.join("data/blocks"))
        .map_err(|e| e.to_string())?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .collect();
    let block = &blocks[rng.below(blocks.len() as u64) as usize];
    let bytes: u64 = blocks.iter().filter_map(|b| b.metadata().ok()).map(|meta| meta.len()).sum();
    let file = std::fs::File::options().read(true).write(true).open(block).map_err(|e| e.to_string())?;
    let offset = rng.below(file.metadata().map_err(|e| e.to_string())?.len());
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).map_err(|e| e.to_string())?;
    byte[0] ^= 1 << rng.below(8);
    file.write_all_at(&byte, offset).map_err(|e| e.to_string())?;
    let planted = Instant::now();
    let read_before = metric(&mut http, "kymo_storage_scrub_bytes_total");
    let rounds = metric(&mut http, "kymo_storage_scrub_rounds_total");
    // The round under way may have passed the place.
    let found = loop {
        if metric(&mut http, "kymo_storage_blocks_damaged") > 0.0 {
            break true;
        }
        let over = metric(&mut http, "kymo_storage_scrub_rounds_total") >= rounds + 2.0;
        if over || planted.elapsed() > Duration::from_secs(120) {
            break false;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let after = planted.elapsed();
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    // Not a rate: of a small store one round is read in a turn, and then the search waits for the next.
    let read_mib = mib(metric(&mut http, "kymo_storage_scrub_bytes_total") - read_before);
    let name = block.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let said = server.output().lines().any(|line| line.contains("rot was found") && line.contains(&name));
    let text = format!(
        "mib={:.1} scrub_rate_mib_s={SCRUB_RATE_MIB_S} read_mib={read_mib:.1} planted=1 found={} named_in_log={said} after_s={:.1}",
        mib(bytes as f64),
        u8::from(found),
        after.as_secs_f64()
    );
    server.kill();
    Ok(Figures::new(text, found && said && read_mib > 0.0))
}
