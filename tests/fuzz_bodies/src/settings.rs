//! What operators and clients set: configuration files, web files, parameters, durations, sizes, times, base64.

use crate::input::{Input, seed};
use kymo_server::access::web_file::WebFile;
use kymo_server::config::duration::{binary_size_flag, flag, parse_ms, size_flag};
use kymo_server::config::file::{ConfigFile, from_yaml, to_yaml};
use kymo_server::config::otlp::OtlpSettings;
use kymo_server::http::params::{Params, parse_duration_ms, parse_time};
use kymo_server::wire::base64;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    let choice = input.u8();
    if choice % 6 == 2 {
        return params(input);
    }
    if choice % 6 == 4 {
        let (mut text, bytes) = (String::new(), input.0);
        base64::encode(&mut text, bytes);
        assert_eq!(base64::decode(&text).as_deref(), Some(bytes));
        assert_eq!(base64::decode_any(&text).as_deref(), Some(bytes));
    }
    let Ok(text) = std::str::from_utf8(input.0) else { return };
    match choice % 6 {
        0 => {
            if let Ok(file) = ConfigFile::parse(text) {
                let _ = file.retention_rules();
                let shown = to_yaml(&file).unwrap();
                let again = ConfigFile::parse(&shown).unwrap_or_else(|e| panic!("{shown}\n{e}"));
                assert_eq!(to_yaml(&again).unwrap(), shown);
            }
        }
        1 => {
            if let Ok(file) = WebFile::parse(text) {
                let _ = file.paths();
                let _ = format!("{file:?}");
            }
        }
        3 => numbers(text),
        4 => {
            let _ = base64::decode(text);
            let _ = base64::decode_any(text);
        }
        _ => {
            if let Ok(settings) = from_yaml::<OtlpSettings>(text) {
                let _ = settings.check();
            }
        }
    }
}

fn params(mut input: Input<'_>) {
    let query = input.piece();
    let Ok(query) = std::str::from_utf8(query) else { return };
    let Ok(params) = Params::parse(Some(query), input.0) else { return };
    for name in ["query", "match[]", "a", ""] {
        let _ = params.get(name);
        let _ = params.all(name).count();
        let _ = params.time(name);
        let _ = params.required_time(name);
        let _ = params.duration_ms(name);
        let _ = params.required_duration_ms(name);
        let _ = params.limit(name);
        let _ = params.number(name, "a number");
    }
}

fn numbers(text: &str) {
    let _ = parse_time(text);
    let _ = parse_duration_ms(text);
    let _ = flag(text);
    let _ = size_flag(text);
    let _ = binary_size_flag(text);
    if let Some(ms) = parse_ms(text) {
        assert!(ms >= 0, "{text} is {ms}");
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let config = r#"global: {}
external_labels:
  cluster: a
retention:
  - selector: '{job=~"a|b"}'
    keep: 30d
query:
  timeout: 2m
  max_samples: 50000000
  lookback: 5m
ingest:
  max_body_bytes: 1000
otlp:
  translation_strategy: NoTranslation
  promote_resource_attributes: [a, b]
"#;
    let plain = config.trim_start_matches("global: {}\n");
    let web = "tls_server_config:
  cert_file: a.pem
  key_file: b.pem
  min_version: TLS12
http_server_config:
  http2: false
  headers:
    X-Frame-Options: deny
basic_auth_users:
  admin: $2y$10$abcdefghijklmnopqrstuv
bearer_tokens:
  - name: t
    token_file: t.txt
    roles: [read]
rate_limit:
  interval: 1s
  burst: 5
";
    let mut seeds = vec![
        seed(&[&[0], config.as_bytes()]),
        seed(&[&[0], plain.as_bytes()]),
        seed(&[&[0], b"a: &x [1, 2]\nb: [*x, *x]\n? c\n: |\n  d\n"]),
        seed(&[&[1], web.as_bytes()]),
        seed(&[&[4], b"aGVsbG8="]),
        seed(&[&[5], b"translation_strategy: NoUTF8EscapingWithSuffixes\npromote_all_resource_attributes: true\nignore_resource_attributes: [a]\n"]),
    ];
    let query = crate::input::piece(b"query=up%7Ba%3D%22b%22%7D&a=1700000000.123&match[]=x&match%5B%5D=y+z");
    seeds.push(seed(&[&[2], &query, b"query=1h30m&a=2023-11-14T22:13:20.5Z&=5"]));
    for text in
        ["1h30m", "5MiB", "100", "2023-11-14T22:13:20.123456789+01:00", "1e3", "-1.5", "1y2w3d", "512MB"]
    {
        seeds.push(seed(&[&[3], text.as_bytes()]));
    }
    seeds
}
