//! Judges who comes in by the web configuration file, and reads that file and all it names again when one of them changes.

use super::passwords::{NoEntry, Passwords};
use super::role::Roles;
use super::tls;
use super::tokens::Tokens;
use super::web_file::{RateSection, WebFile};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::time::Instant;

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It did not say who it is from.
    Missing,
    /// It said so in a way that is not known, or not true.
    Wrong,
    /// Too many passwords wait to be judged.
    Busy,
}

/// How a request says who it is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials<'c> {
    /// It does not.
    None,
    /// User and password.
    Basic(&'c str, &'c str),
    /// A token.
    Bearer(&'c str),
    /// In a way that cannot be read, or more than one.
    Unreadable,
}

/// What one reading of the files gave.
struct Rules {
    file: WebFile,
    passwords: Passwords,
    tokens: Tokens,
    tls: Option<Arc<ServerConfig>>,
}

/// The rules in force.
pub struct Gatekeeper {
    path: Option<PathBuf>,
    rules: ArcSwap<Rules>,
    stamps: Mutex<Vec<Option<Stamp>>>,
    /// Requests that may come now, and since when that is so.
    tokens_left: Mutex<Option<(f64, Instant)>>,
}

/// What changes when a file does: device, inode, size, and both times.
type Stamp = (u64, u64, u64, i64, i64, i64, i64);

impl Gatekeeper {
    /// Reads the web configuration file; without one everybody may do everything, over plain HTTP.
    ///
    /// # Errors
    /// A sentence with the file and the place in it.
    pub fn open(path: Option<&Path>) -> Result<Self, String> {
        let stamps = stamps(path, path.map(WebFile::read).transpose()?.as_ref());
        let rules = read(path)?;
        Ok(Self {
            path: path.map(Path::to_owned),
            rules: ArcSwap::from_pointee(rules),
            stamps: Mutex::new(stamps),
            tokens_left: Mutex::new(None),
        })
    }

    /// Whether somebody has to say who he is.
    pub fn is_closed(&self) -> bool {
        let rules = self.rules.load();
        !(rules.passwords.is_empty() && rules.tokens.is_empty()) || rules.certificates_required()
    }

    /// What the bearer of these credentials may do.
    ///
    /// # Errors
    /// See [`Denied`].
    pub async fn judge(&self, credentials: Credentials<'_>) -> Result<Roles, Denied> {
        let rules = self.rules.load_full();
        if rules.passwords.is_empty() && rules.tokens.is_empty() {
            return Ok(Roles::ALL);
        }
        match credentials {
            Credentials::None => Err(Denied::Missing),
            Credentials::Unreadable => Err(Denied::Wrong),
            Credentials::Bearer(token) => rules.tokens.judge(token).ok_or(Denied::Wrong),
            // Without users there is nothing to compute for.
            Credentials::Basic(..) if rules.passwords.is_empty() => Err(Denied::Wrong),
            Credentials::Basic(name, password) => {
                rules.passwords.judge(name, password).await.map_err(|e| match e {
                    NoEntry::Wrong => Denied::Wrong,
                    NoEntry::Busy => Denied::Busy,
                })
            }
        }
    }

    /// The ways to say who one is, for `WWW-Authenticate`.
    pub fn challenges(&self) -> Vec<&'static str> {
        let rules = self.rules.load();
        let ways = [(!rules.passwords.is_empty(), "Basic"), (!rules.tokens.is_empty(), "Bearer")];
        ways.into_iter().filter(|(there, _)| *there).map(|(_, name)| name).collect()
    }

    /// Headers of every response, as the file gives them.
    pub fn headers(&self) -> Vec<(String, String)> {
        let rules = self.rules.load();
        let headers = rules.file.http_server_config.headers.iter();
        headers.filter(|(_, value)| !value.is_empty()).map(|(n, v)| (n.clone(), v.clone())).collect()
    }

    /// TLS as it is now; `None` for plain HTTP.
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.rules.load().tls.clone()
    }

    /// Whether HTTP/2 is spoken.
    pub fn http2(&self) -> bool {
        self.rules.load().file.http_server_config.http2
    }

    /// Whether one more request may come now.
    pub fn within_rate(&self) -> bool {
        let Some(rate) = self.rules.load().file.rate_limit.filter(|r| !r.interval.0.is_zero()) else {
            return true;
        };
        let RateSection { interval, burst } = rate;
        let (now, full) = (Instant::now(), f64::from(burst.max(1)));
        let mut left = self.tokens_left.lock();
        let (had, since) = left.unwrap_or((full, now));
        let has = (had + (now - since).as_secs_f64() / interval.0.as_secs_f64()).min(full);
        let may = has >= 1.0;
        *left = Some((if may { has - 1.0 } else { has }, now));
        may
    }

    /// Reads the files again if one of them changed (or `always`). `None` if there was nothing to do. May block.
    ///
    /// # Errors
    /// The sentence of the first mistake; the old rules stay in force.
    pub fn refresh(&self, always: bool) -> Option<Result<(), String>> {
        let path = self.path.as_deref()?;
        let seen = stamps(Some(path), Some(&self.rules.load().file));
        if !always && *self.stamps.lock() == seen {
            return None;
        }
        *self.stamps.lock() = seen;
        let fresh = read(Some(path)).and_then(|rules| {
            if rules.tls.is_some() == self.rules.load().tls.is_some() {
                Ok(rules)
            } else {
                Err("TLS can be turned on and off only by a restart".to_owned())
            }
        });
        Some(fresh.map(|rules| self.rules.store(Arc::new(rules))))
    }
}

impl Rules {
    fn certificates_required(&self) -> bool {
        use super::web_file::ClientAuth::RequireAndVerifyClientCert;
        let section = self.file.tls_server_config.as_ref();
        section.is_some_and(|tls| tls.client_auth_type == RequireAndVerifyClientCert)
    }
}

fn read(path: Option<&Path>) -> Result<Rules, String> {
    let file = path.map(WebFile::read).transpose()?.unwrap_or_default();
    let named = |e: String| path.map_or_else(|| e.clone(), |p| format!("{}: {e}", p.display()));
    let users = file.basic_auth_users.iter().map(|(name, hash)| {
        let roles = file.basic_auth_roles.get(name).map_or(Roles::ALL, |roles| Roles::of(roles));
        (name, hash, roles)
    });
    let passwords = Passwords::new(users).map_err(named)?;
    let tokens = Tokens::new(&file.bearer_tokens).map_err(named)?;
    let http2 = file.http_server_config.http2;
    let tls = file.tls_server_config.as_ref().map(|section| tls::server_config(section, http2));
    let tls = tls.transpose().map_err(named)?.map(Arc::new);
    Ok(Rules { file, passwords, tokens, tls })
}

/// The stamps of the web configuration file and of all it names.
fn stamps(path: Option<&Path>, file: Option<&WebFile>) -> Vec<Option<Stamp>> {
    let named = file.map(WebFile::paths).unwrap_or_default();
    let all = path.map(Path::to_owned).into_iter().chain(named);
    all.map(|path| {
        let m = std::fs::metadata(path).ok()?;
        Some((m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()))
    })
    .collect()
}
