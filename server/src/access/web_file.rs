//! The web configuration file (`--web-config-file`): the format of Prometheus' `web.config.yml`, and roles and tokens beside it.
//!
//! Source: <https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>.

use super::role::Role;
use super::secret::Secret;
use crate::config::duration::Span;
use crate::config::file::{from_yaml, read_text};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file as it is written.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebFile {
    /// TLS; without it the server speaks plain HTTP.
    pub tls_server_config: Option<TlsSection>,
    /// HTTP/2 and headers.
    pub http_server_config: HttpSection,
    /// Users and the bcrypt hashes of their passwords.
    pub basic_auth_users: BTreeMap<String, Secret>,
    /// Roles of users; one that is not named here may do everything, as in Prometheus.
    pub basic_auth_roles: BTreeMap<String, Vec<Role>>,
    /// Those who bring a token instead of a password.
    pub bearer_tokens: Vec<TokenSection>,
    /// How many requests are let in.
    pub rate_limit: Option<RateSection>,
}

/// `tls_server_config`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSection {
    /// The certificate chain as PEM.
    pub cert: Option<String>,
    /// Its key as PEM.
    pub key: Option<Secret>,
    /// The file of the certificate chain.
    pub cert_file: Option<PathBuf>,
    /// The file of its key.
    pub key_file: Option<PathBuf>,
    /// What clients must show.
    pub client_auth_type: ClientAuth,
    /// Who signs the certificates of clients, as PEM.
    pub client_ca: Option<String>,
    /// The file of that.
    pub client_ca_file: Option<PathBuf>,
    /// A client's certificate must carry one of these names.
    pub client_allowed_sans: Vec<String>,
    /// The oldest version spoken.
    pub min_version: TlsVersion,
    /// The newest version spoken.
    pub max_version: TlsVersion,
    /// Names of cipher suites of TLS 1.2 in Go's spelling; all that are safe if empty.
    pub cipher_suites: Vec<String>,
    /// Whether the order of the server decides.
    pub prefer_server_cipher_suites: bool,
    /// Names of curves in Go's spelling.
    pub curve_preferences: Vec<String>,
}

impl Default for TlsSection {
    fn default() -> Self {
        Self {
            cert: None,
            key: None,
            cert_file: None,
            key_file: None,
            client_auth_type: ClientAuth::NoClientCert,
            client_ca: None,
            client_ca_file: None,
            client_allowed_sans: Vec::new(),
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
            prefer_server_cipher_suites: true,
            curve_preferences: Vec::new(),
        }
    }
}

/// What clients must show of themselves. The names are Go's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ClientAuth {
    /// Nothing.
    #[serde(alias = "")]
    NoClientCert,
    /// A certificate is asked for; none and any will do.
    RequestClientCert,
    /// Any certificate, whoever signed it.
    RequireAnyClientCert,
    /// A certificate signed by the CA, or none.
    VerifyClientCertIfGiven,
    /// A certificate signed by the CA.
    RequireAndVerifyClientCert,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum TlsVersion {
    /// 1.0, not spoken.
    #[serde(rename = "TLS10")]
    Tls10,
    /// 1.1, not spoken.
    #[serde(rename = "TLS11")]
    Tls11,
    /// 1.2
    #[serde(rename = "TLS12")]
    Tls12,
    /// 1.3
    #[serde(rename = "TLS13")]
    Tls13,
}

/// `http_server_config`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSection {
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// Headers of every response.
    pub headers: BTreeMap<String, String>,
}

impl Default for HttpSection {
    fn default() -> Self {
        Self { http2: true, headers: BTreeMap::new() }
    }
}

/// One of `bearer_tokens`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSection {
    /// Whose token it is, for messages.
    pub name: String,
    /// The SHA-256 of the token in hexadecimal digits.
    #[serde(default)]
    pub token_sha256: Option<Secret>,
    /// A file that holds the token; white space around it does not count.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// What its bearer may do.
    pub roles: Vec<Role>,
}

/// `rate_limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateSection {
    /// The time after which one more request is let in.
    pub interval: Span,
    /// Requests that may come at once.
    #[serde(default)]
    pub burst: u32,
}

/// The headers that may be set, as in Prometheus.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "X-XSS-Protection",
    "Strict-Transport-Security",
];

impl WebFile {
    /// Reads and checks the file; paths in it are relative to its folder.
    ///
    /// # Errors
    /// A sentence with the path, and line and column where there is one.
    pub fn read(path: &Path) -> Result<Self, String> {
        let named = |e: String| format!("{}: {e}", path.display());
        let mut file = Self::parse(&read_text(path)?).map_err(named)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for inner in file.paths_mut() {
            *inner = folder.join(&*inner);
        }
        Ok(file)
    }

    /// Reads and checks a text.
    ///
    /// # Errors
    /// A sentence with line and column where there is one; never what stands at a place for a secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut file: Self = from_yaml(text)?;
        // A section without certificate, key and client rules means none, as in Prometheus.
        file.tls_server_config = file.tls_server_config.filter(|tls| *tls != TlsSection::default());
        for name in file.http_server_config.headers.keys() {
            if !HEADERS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                return Err(format!(
                    "HTTP header {name:?} can not be configured; possible are {}",
                    HEADERS.join(", ")
                ));
            }
        }
        if let Some(name) =
            file.basic_auth_roles.keys().find(|name| !file.basic_auth_users.contains_key(*name))
        {
            return Err(format!("basic_auth_roles: there is no user {name:?} in basic_auth_users"));
        }
        if let Some((name, _)) = file.basic_auth_roles.iter().find(|(_, roles)| roles.is_empty()) {
            return Err(format!("basic_auth_roles: {name:?} has no role; possible are read, write, admin"));
        }
        for (i, token) in file.bearer_tokens.iter().enumerate() {
            let name = &token.name;
            if token.token_sha256.is_some() == token.token_file.is_some() {
                return Err(format!("bearer_tokens: {name:?} needs one of token_sha256 and token_file"));
            }
            if token.roles.is_empty() {
                return Err(format!("bearer_tokens: {name:?} has no role; possible are read, write, admin"));
            }
            if file.bearer_tokens.iter().take(i).any(|other| other.name == *name) {
                return Err(format!("bearer_tokens: {name:?} is there twice"));
            }
        }
        Ok(file)
    }

    /// The files that this one names.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.clone().paths_mut().into_iter().map(|path| path.clone()).collect()
    }

    fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        let tls = self.tls_server_config.iter_mut();
        let tls = tls.flat_map(|t| [&mut t.cert_file, &mut t.key_file, &mut t.client_ca_file]).flatten();
        tls.chain(self.bearer_tokens.iter_mut().filter_map(|t| t.token_file.as_mut())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_prometheus() {
        let text = concat!(
            "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n",
            "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: /ca.crt\n  min_version: TLS13\n",
            "http_server_config:\n  http2: false\n  headers:\n    Strict-Transport-Security: max-age=1\n",
            "basic_auth_users:\n  alice: $2y$10$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze\n",
            "rate_limit:\n  interval: 1s\n  burst: 20\n",
        );
        let file = WebFile::parse(text).unwrap();
        let tls = file.tls_server_config.as_ref().unwrap();
        assert_eq!((tls.min_version, tls.max_version), (TlsVersion::Tls13, TlsVersion::Tls13));
        assert!(!file.http_server_config.http2);
        assert_eq!(file.paths().len(), 3);
        let shown = format!("{file:?}");
        assert!(shown.contains("<secret>") && !shown.contains("mDwo"), "{shown}");
        assert_eq!(WebFile::parse("tls_server_config: {}\n").unwrap(), WebFile::default());
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        let cases = [
            ("tls_server_confi: {}\n", "unknown field"),
            ("tls_server_config: {min_version: TLS9}\n", "TLS9"),
            ("tls_server_config: {client_auth_type: Maybe}\n", "Maybe"),
            ("http_server_config: {headers: {Server: x}}\n", "can not be configured"),
            ("basic_auth_roles: {bob: [read]}\n", "no user \"bob\""),
            ("basic_auth_users: {bob: h}\nbasic_auth_roles: {bob: [root]}\n", "root"),
            ("bearer_tokens: [{name: a, roles: [read]}]\n", "needs one of"),
            ("bearer_tokens: [{name: a, token_sha256: x, roles: []}]\n", "no role"),
            ("bearer_tokens: [{name: a, token: canary, roles: [read]}]\n", "unknown field `token`"),
        ];
        for (text, words) in cases {
            let error = WebFile::parse(text).unwrap_err();
            assert!(error.contains(words) && !error.contains("canary"), "{text:?}: {error}");
        }
    }
}
