//! The command line: every flag has a `KYMO_*` twin in the environment and its default in `--help`.

use super::duration;
use super::tsdb_flags::TsdbCommand;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use kymo_query::features::{Switches, UnknownFeature};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Kymo: a metrics time-series database. Prometheus writes in, PromQL reads out.
#[derive(Debug, Parser)]
#[command(name = "kymo", version, about, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    /// What to do; `serve` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of `serve`.
    #[command(flatten)]
    pub serve: ServeFlags,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server (also what bare `kymo` does).
    Serve(Box<ServeFlags>),
    /// Work on a store that no server has open: blocks of Prometheus in and out, list, analyze, dump, verify.
    Tsdb {
        /// What to do.
        #[command(subcommand)]
        command: TsdbCommand,
    },
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DurabilityFlag {
    /// After its bytes are on the disk.
    Sync,
    /// After the system has its bytes; they reach the disk within this time.
    Interval(Duration),
    /// After the system has its bytes; it writes them when it likes.
    Os,
}

fn durability(text: &str) -> Result<DurabilityFlag, String> {
    match text.split_once('=') {
        None if text == "sync" => Ok(DurabilityFlag::Sync),
        None if text == "os" => Ok(DurabilityFlag::Os),
        None if text == "interval" => Ok(DurabilityFlag::Interval(Duration::from_secs(1))),
        Some(("interval", period)) => duration::flag(period).map(DurabilityFlag::Interval),
        _ => Err(format!("{text:?} is none of sync, interval, interval=1s, os")),
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For eyes.
    Text,
    /// One JSON object a line.
    Json,
}

/// `--log`: what to log and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFlag {
    /// A filter in the syntax of `tracing`'s `EnvFilter`.
    pub filter: String,
    /// The form of the lines.
    pub format: LogFormat,
}

fn log(text: &str) -> Result<LogFlag, String> {
    let mut flag = LogFlag { filter: String::new(), format: LogFormat::Text };
    for part in text.split(',').filter(|p| !p.is_empty()) {
        match part {
            "json" => flag.format = LogFormat::Json,
            "text" => flag.format = LogFormat::Text,
            _ => {
                if !flag.filter.is_empty() {
                    flag.filter.push(',');
                }
                flag.filter.push_str(part);
            }
        }
    }
    if flag.filter.is_empty() {
        flag.filter.push_str("info");
    }
    Ok(flag)
}

/// The flags of `kymo serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeFlags {
    /// Address and port to listen on. On an address that others reach, say who may do what with --web-config-file.
    #[arg(long, env = "KYMO_LISTEN", default_value = "127.0.0.1:5966", visible_alias = "web.listen-address")]
    pub listen: SocketAddr,
    /// The data directory; created if it is not there.
    #[arg(long, env = "KYMO_DATA", default_value = "./kymo-data", visible_alias = "storage.tsdb.path")]
    pub data: PathBuf,
    /// A YAML file with what may change while the server runs; read again at SIGHUP and `POST /-/reload`.
    #[arg(long, env = "KYMO_CONFIG", visible_alias = "config.file")]
    pub config: Option<PathBuf>,
    /// How long samples are kept.
    #[arg(long, env = "KYMO_RETENTION", default_value = "15d", value_parser = duration::flag, visible_alias = "storage.tsdb.retention.time")]
    pub retention: Duration,
    /// What is done with what is stored.
    #[command(flatten)]
    pub storage: StorageFlags,
    /// When a write is acknowledged: `sync` (on disk), `interval=1s` (on disk within that time), `os`.
    #[arg(long, env = "KYMO_DURABILITY", default_value = "sync", value_parser = durability)]
    pub durability: DurabilityFlag,
    /// Store Kymo's own metrics every 15 s as job="kymo".
    #[arg(
        long,
        env = "KYMO_SELF_MONITOR",
        default_value_t = true,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub self_monitor: bool,
    /// What to log (error, warn, info, debug, trace, or `module=level`), and `json` for JSON lines; joined by commas.
    #[arg(long, env = "KYMO_LOG", default_value = "info", value_parser = log)]
    pub log: LogFlag,
    /// Connections open at the same time; those beyond are told so and closed. One address may hold three quarters of them.
    #[arg(
        long,
        env = "KYMO_MAX_CONNECTIONS",
        default_value_t = 10_000,
        visible_alias = "web.max-connections"
    )]
    pub max_connections: usize,
    /// Who may call, and how.
    #[command(flatten)]
    pub web: WebFlags,
    /// Limits of queries.
    #[command(flatten)]
    pub query: QueryFlags,
    /// Limits of writes.
    #[command(flatten)]
    pub ingest: IngestFlags,
    /// Every flag and its value as it was given, for the status page.
    #[arg(skip)]
    pub shown: BTreeMap<String, String>,
}

/// What is done with what is stored.
#[derive(Debug, Clone, Args)]
pub struct StorageFlags {
    /// Bytes that blocks and log may take beside --retention: the oldest blocks go first. KB, MB, GB and TB are powers of 1024
    /// here, as in Prometheus. 0: no bound.
    #[arg(
        long,
        env = "KYMO_RETENTION_SIZE",
        default_value = "0",
        value_parser = duration::binary_size_flag,
        visible_alias = "storage.tsdb.retention.size"
    )]
    pub retention_size: u64,
    /// How much of one core the merging of blocks may take, in percent; a quarter of that while writes wait. 0: nothing is merged.
    #[arg(
        long,
        env = "KYMO_COMPACTION_PERCENT",
        default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(0..=100)
    )]
    pub compaction_percent: u32,
    /// Bytes of blocks a second that are read again to find rot. 0: none.
    #[arg(long, env = "KYMO_SCRUB_RATE", default_value = "1MiB", value_parser = duration::size_flag)]
    pub scrub_rate: usize,
    /// Below so many free bytes of disk writes are refused with 503, until there is room again. [default: 1 % of the disk, at least
    /// 256 MiB and at most 1 GiB]
    #[arg(long, env = "KYMO_FREE_SPACE_MIN", value_parser = duration::size_flag)]
    pub free_space_min: Option<usize>,
    /// How long after a delete the room of what was deleted is given back, if no merge does it before.
    #[arg(long, env = "KYMO_DELETE_RECLAIM_AFTER", default_value = "1h", value_parser = duration::flag)]
    pub delete_reclaim_after: Duration,
}

/// Who may call, and how.
#[derive(Debug, Clone, Args)]
pub struct WebFlags {
    /// A YAML file with TLS, users, tokens and roles, in the format of Prometheus' web.config.yml; read again when it, or a
    /// file that it names, changes.
    #[arg(long, env = "KYMO_WEB_CONFIG_FILE", visible_alias = "web.config.file")]
    pub web_config_file: Option<PathBuf>,
    /// Answer POST /-/reload and /-/quit.
    #[arg(
        long,
        env = "KYMO_WEB_ENABLE_LIFECYCLE",
        visible_alias = "web.enable-lifecycle",
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub web_enable_lifecycle: bool,
    /// Answer the routes that delete series and make snapshots.
    #[arg(
        long,
        env = "KYMO_WEB_ENABLE_ADMIN_API",
        visible_alias = "web.enable-admin-api",
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub web_enable_admin_api: bool,
    /// Origins whose pages may call the API, as a regular expression over the whole origin; none if not given.
    #[arg(long, env = "KYMO_WEB_CORS_ORIGIN", visible_alias = "web.cors.origin")]
    pub web_cors_origin: Option<String>,
    /// The time a request's head may take, and before it the handshake of TLS.
    #[arg(long, env = "KYMO_WEB_HEAD_TIMEOUT", default_value = "10s", value_parser = duration::flag)]
    pub web_head_timeout: Duration,
    /// The time a connection may be idle between two requests.
    #[arg(long, env = "KYMO_WEB_IDLE_TIMEOUT", default_value = "90s", value_parser = duration::flag)]
    pub web_idle_timeout: Duration,
    /// The time a client may take nothing of a response, or less than 1 KiB a second; ten times that is all the time for a response
    /// that is in memory.
    #[arg(long, env = "KYMO_WEB_WRITE_TIMEOUT", default_value = "30s", value_parser = duration::flag)]
    pub web_write_timeout: Duration,
    /// Bytes of a request's head. The URL alone may take 64 KiB.
    #[arg(
        long,
        env = "KYMO_WEB_MAX_HEADER_BYTES",
        default_value = "128KiB",
        value_parser = duration::size_flag
    )]
    pub web_max_header_bytes: usize,
}

/// Limits of queries.
#[derive(Debug, Clone, Args)]
pub struct QueryFlags {
    /// The longest a query may run.
    #[arg(long, env = "KYMO_QUERY_TIMEOUT", visible_alias = "query.timeout", default_value = "2m", value_parser = duration::flag)]
    pub query_timeout: Duration,
    /// Queries that run at the same time; others wait up to 10 s for their turn. A quarter as many exports, federations and remote
    /// reads are read from the store beside them.
    #[arg(
        long,
        env = "KYMO_QUERY_MAX_CONCURRENCY",
        visible_alias = "query.max-concurrency",
        default_value_t = 20
    )]
    pub query_max_concurrency: usize,
    /// Samples one query may hold in memory.
    #[arg(
        long,
        env = "KYMO_QUERY_MAX_SAMPLES",
        visible_alias = "query.max-samples",
        default_value_t = 50_000_000
    )]
    pub query_max_samples: u64,
    /// Points (steps) a series may have in a range query, not counting the first.
    #[arg(long, env = "KYMO_QUERY_MAX_POINTS", default_value_t = 11_000)]
    pub query_max_points: u64,
    /// Memory that all running queries may hold together.
    #[arg(long, env = "KYMO_QUERY_MEMORY", default_value = "1GiB", value_parser = duration::size_flag)]
    pub query_memory: usize,
    /// How far back an instant selector looks for a sample.
    #[arg(long, env = "KYMO_QUERY_LOOKBACK", visible_alias = "query.lookback-delta", default_value = "5m", value_parser = duration::flag)]
    pub query_lookback: Duration,
    /// Parts of PromQL to switch on, or off with `no-` before the name, separated by commas; the names are those of Prometheus'
    /// `--enable-feature`. On unless switched off: promql-binop-fill-modifiers, promql-duration-expr,
    /// promql-experimental-functions, promql-extended-range-selectors. Off, because they change answers:
    /// promql-delayed-name-removal, type-and-unit-labels, use-start-timestamps.
    #[arg(
        long,
        visible_alias = "query.features",
        env = "KYMO_QUERY_FEATURES",
        default_value = "",
        hide_default_value = true,
        value_parser = switches
    )]
    pub query_features: Switches,
}

/// Limits of writes.
#[derive(Debug, Clone, Args)]
pub struct IngestFlags {
    /// Bytes of a request's body as it is sent.
    #[arg(
        long,
        env = "KYMO_INGEST_MAX_BODY_BYTES",
        default_value = "32MiB",
        value_parser = duration::size_flag
    )]
    pub ingest_max_body_bytes: usize,
    /// Bytes of a request's body when decompressed.
    #[arg(
        long,
        env = "KYMO_INGEST_MAX_DECODED_BYTES",
        default_value = "32MiB",
        value_parser = duration::size_flag
    )]
    pub ingest_max_decoded_bytes: usize,
    /// Memory that all bodies being received and decoded may hold together.
    #[arg(long, env = "KYMO_INGEST_MEMORY", default_value = "512MiB", value_parser = duration::size_flag)]
    pub ingest_memory: usize,
    /// Labels a series may have.
    #[arg(long, env = "KYMO_INGEST_MAX_LABELS", default_value_t = 64)]
    pub ingest_max_labels: usize,
    /// Memory of the store for labels and for samples not yet in blocks, 16MiB at least; queries and requests come on top. Labels
    /// may take half of it, then new series are refused; the head is flushed earlier the more they take. Default: no limit
    /// but the others.
    #[arg(long, env = "KYMO_STORAGE_MEMORY", value_parser = duration::size_flag)]
    pub storage_memory: Option<usize>,
    /// Series the store may know at one time.
    #[arg(long, env = "KYMO_INGEST_MAX_SERIES", default_value_t = 20_000_000)]
    pub ingest_max_series: u32,
    /// Writes that are decoded at the same time; others wait up to 10 s for their turn.
    #[arg(long, env = "KYMO_INGEST_MAX_CONCURRENCY", default_value_t = 16)]
    pub ingest_max_concurrency: usize,
}

/// What the process was started to do. Ends the process for `--help`, `--version` and mistakes, with the words for it.
pub fn from_process() -> Command {
    from_arguments(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// What these arguments, the first of which names the program, say to do.
///
/// # Errors
/// What is to be printed instead of starting.
pub fn from_arguments(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<Command, clap::Error> {
    let matches = CommandLine::command().try_get_matches_from(arguments)?;
    let CommandLine { command, serve } = CommandLine::from_arg_matches(&matches)?;
    let mut command = command.unwrap_or_else(|| Command::Serve(Box::new(serve)));
    if let Command::Serve(flags) = &mut command {
        flags.shown = shown(matches.subcommand().map_or(&matches, |(_, inner)| inner));
    }
    Ok(command)
}

/// Every flag with its value, under our name and under that of Prometheus if there is one.
fn shown(matches: &ArgMatches) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::new();
    for arg in ServeFlags::augment_args(clap::Command::new("serve")).get_arguments() {
        let Some(long) = arg.get_long() else { continue };
        let values = matches.try_get_raw(arg.get_id().as_str()).ok().flatten().into_iter().flatten();
        let value = values.map(|v| v.to_string_lossy()).collect::<Vec<_>>().join(",");
        for alias in arg.get_visible_aliases().into_iter().flatten() {
            shown.insert(alias.to_owned(), value.clone());
        }
        shown.insert(long.to_owned(), value);
    }
    shown
}

fn switches(list: &str) -> Result<Switches, UnknownFeature> {
    list.parse()
}

impl CommandLine {
    /// The flags of `serve`, given with or without the word; their defaults if another command is given.
    pub fn into_serve(self) -> ServeFlags {
        match self.command {
            Some(Command::Serve(flags)) => *flags,
            Some(Command::Tsdb { .. }) | None => self.serve,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_and_serve_are_the_same() {
        CommandLine::command().debug_assert();
        for words in [&["kymo"][..], &["kymo", "serve"]] {
            let mut words = words.to_vec();
            words.extend(["--retention", "1h30m", "--durability", "interval=250ms", "--self-monitor=false"]);
            let flags = CommandLine::try_parse_from(words).unwrap().into_serve();
            assert_eq!(flags.listen.to_string(), "127.0.0.1:5966");
            assert_eq!(flags.retention, Duration::from_secs(5_400));
            assert_eq!(flags.durability, DurabilityFlag::Interval(Duration::from_millis(250)));
            assert!(!flags.self_monitor);
            assert_eq!(flags.ingest.ingest_max_body_bytes, 32 << 20);
            assert_eq!(flags.query.query_timeout, Duration::from_secs(120));
        }
    }

    #[test]
    fn every_flag_has_its_twin_and_its_help() {
        for arg in CommandLine::command()
            .get_arguments()
            .filter(|a| !["help", "version"].contains(&a.get_id().as_str()))
        {
            let expected = format!("KYMO_{}", arg.get_id().as_str().to_uppercase());
            assert_eq!(arg.get_env().and_then(|e| e.to_str()), Some(expected.as_str()));
            assert!(arg.get_help().is_some(), "{expected}");
            // Files and origins that nobody named are not there, and what goes by the machine has no figure.
            let optional =
                ["config", "free_space_min", "storage_memory", "web_config_file", "web_cors_origin"];
            let optional = optional.contains(&arg.get_id().as_str());
            assert_eq!(optional, arg.get_default_values().is_empty(), "{expected}");
        }
    }

    #[test]
    fn names_of_prometheus_work_and_all_are_shown() {
        for serve in [&["kymo"][..], &["kymo", "serve"]] {
            let more = [
                "--query.timeout=30s",
                "--web.enable-lifecycle",
                "--storage.tsdb.path=/x",
                "--storage.tsdb.retention.size=512MB",
            ];
            let Command::Serve(flags) = from_arguments(serve.iter().chain(&more)).unwrap() else {
                panic!("not serve")
            };
            assert_eq!(flags.storage.retention_size, 512 << 20);
            assert_eq!(flags.query.query_timeout, Duration::from_secs(30));
            assert!(flags.web.web_enable_lifecycle && !flags.web.web_enable_admin_api);
            let value = |name: &str| flags.shown[name].as_str();
            assert_eq!((value("query-timeout"), value("query.timeout"), value("data")), ("30s", "30s", "/x"));
            assert_eq!(
                (value("retention"), value("config"), value("web-enable-lifecycle")),
                ("15d", "", "true")
            );
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        for words in [
            ["--listen", "nowhere"],
            ["--retention", "15"],
            ["--durability", "maybe"],
            ["--query-memory", "x"],
            ["--retention-size", "1XB"],
            ["--compaction-percent", "101"],
            ["--query-features", "time-travel"],
        ] {
            assert!(CommandLine::try_parse_from(["kymo", words[0], words[1]]).is_err(), "{words:?}");
        }
    }

    #[test]
    fn the_help_names_all_features() {
        let command = CommandLine::command();
        let flag = command.get_arguments().find(|a| a.get_id() == "query_features").unwrap();
        let help = flag.get_help().unwrap().to_string().replace([',', '.'], " ");
        for feature in kymo_query::features::FEATURES {
            assert!(help.split_whitespace().any(|word| word == feature.name), "{}", feature.name);
        }
        let words = ["kymo", "--query.features=use-start-timestamps,no-promql-duration-expr"];
        let switches = CommandLine::try_parse_from(words).unwrap().into_serve().query.query_features;
        let options = switches.apply(kymo_query::EngineOptions::default());
        assert!(options.use_start_timestamps && !options.duration_expressions);
    }

    #[test]
    fn log_takes_filter_and_format() {
        let flag = |filter: &str, format| LogFlag { filter: filter.into(), format };
        assert_eq!(log("info"), Ok(flag("info", LogFormat::Text)));
        assert_eq!(log("json"), Ok(flag("info", LogFormat::Json)));
        assert_eq!(log("debug,json,hyper=warn"), Ok(flag("debug,hyper=warn", LogFormat::Json)));
    }
}
