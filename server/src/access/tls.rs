//! TLS as the web configuration file asks for it: certificates, versions, suites, and what clients must show.

use super::web_file::{ClientAuth, TlsSection, TlsVersion};
use crate::config::file::read_text;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, NamedGroup, RootCertStore,
    ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use std::path::PathBuf;
use std::sync::Arc;

/// The suites of TLS 1.2 there are, as Go names them and as this library does. Those of TLS 1.3 cannot be chosen, as in Go.
const SUITES: [(&str, rustls::CipherSuite); 6] = {
    use rustls::CipherSuite as S;
    [
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", S::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", S::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", S::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", S::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", S::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", S::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ]
};

/// The curves there are, as Go names them.
const CURVES: [(&str, NamedGroup); 3] = [
    ("X25519", NamedGroup::X25519),
    ("CurveP256", NamedGroup::secp256r1),
    ("CurveP384", NamedGroup::secp384r1),
];

/// Reads certificates and key and makes of them what the listener needs.
///
/// # Errors
/// A file cannot be read, is no PEM or does not fit the others; a version, suite or curve is not spoken. The sentence names the
/// setting and never holds a key.
pub fn server_config(section: &TlsSection, http2: bool) -> Result<ServerConfig, String> {
    let provider = Arc::new(chosen_provider(section)?);
    let chain = pem("cert", section.cert.as_deref(), section.cert_file.as_ref())?;
    let chain: Vec<CertificateDer<'static>> = certificates("cert", &chain)?;
    let key = pem("key", section.key.as_ref().map(|k| k.reveal()), section.key_file.as_ref())?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| {
        "tls_server_config: there is no private key in what `key` or `key_file` gives".to_owned()
    })?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(section)?)
        .map_err(|e| format!("tls_server_config: these versions and suites do not go together: {e}"))?;
    let builder = match verifier(section, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|e| format!("tls_server_config: certificate and key do not go together: {e}"))?;
    config.ignore_client_order = section.prefer_server_cipher_suites;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    Ok(config)
}

/// The text of a setting that can be given in place or as a file.
fn pem(name: &str, inline: Option<&str>, file: Option<&PathBuf>) -> Result<String, String> {
    match (inline, file) {
        (Some(_), Some(_)) => Err(format!("tls_server_config: {name} and {name}_file exclude each other")),
        (Some(text), None) => Ok(text.to_owned()),
        (None, Some(path)) => read_text(path).map_err(|e| format!("tls_server_config: {name}_file: {e}")),
        (None, None) => Err(format!("tls_server_config: {name} or {name}_file is missing")),
    }
}

fn certificates(name: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let parsed = parsed.map_err(|e| format!("tls_server_config: {name}: {e}"))?;
    if parsed.is_empty() {
        return Err(format!(
            "tls_server_config: there is no certificate in what `{name}` or `{name}_file` gives"
        ));
    }
    Ok(parsed)
}

fn versions(section: &TlsSection) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let (min, max) = (section.min_version, section.max_version);
    // An older least version is no mistake: nothing older than 1.2 is spoken anyway.
    let spoken = [(TlsVersion::Tls12, &rustls::version::TLS12), (TlsVersion::Tls13, &rustls::version::TLS13)];
    let chosen: Vec<_> =
        spoken.into_iter().filter(|(v, _)| (min..=max).contains(v)).map(|(_, v)| v).collect();
    if chosen.is_empty() {
        return Err("tls_server_config: no version from min_version to max_version is spoken; there are TLS12 and TLS13".to_owned());
    }
    Ok(chosen)
}

fn chosen_provider(section: &TlsSection) -> Result<CryptoProvider, String> {
    let mut chosen = provider::default_provider();
    if !section.cipher_suites.is_empty() {
        let wanted = named(&section.cipher_suites, &SUITES, "cipher suite")?;
        let all = std::mem::take(&mut chosen.cipher_suites);
        let thirteen = all.iter().filter(|s| s.tls13().is_some());
        let twelve = wanted.iter().filter_map(|w| all.iter().find(|s| s.suite() == *w));
        chosen.cipher_suites = thirteen.chain(twelve).copied().collect();
    }
    if !section.curve_preferences.is_empty() {
        let wanted = named(&section.curve_preferences, &CURVES, "curve")?;
        let all = std::mem::take(&mut chosen.kx_groups);
        chosen.kx_groups =
            wanted.iter().filter_map(|w| all.iter().find(|g| g.name() == *w).copied()).collect();
    }
    Ok(chosen)
}

fn named<T: Copy>(wanted: &[String], known: &[(&str, T)], what: &str) -> Result<Vec<T>, String> {
    let find = |name: &String| {
        known.iter().find(|(n, _)| n == name).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(n, _)| *n).collect();
            format!("tls_server_config: {what} {name:?} is not supported; there are {}", names.join(", "))
        })
    };
    wanted.iter().map(find).collect()
}

/// What judges the certificates of clients; `None` if they need none.
fn verifier(
    section: &TlsSection,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let has_ca = section.client_ca.is_some() || section.client_ca_file.is_some();
    let signed = || -> Result<_, String> {
        let text = pem("client_ca", section.client_ca.as_deref(), section.client_ca_file.as_ref())?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates("client_ca", &text)? {
            roots.add(certificate).map_err(|e| format!("tls_server_config: client_ca: {e}"))?;
        }
        Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)))
    };
    let built = |e| format!("tls_server_config: client_ca: {e}");
    let any = |mandatory| Arc::new(AnyCertificate { provider: Arc::clone(provider), mandatory });
    let inner: Arc<dyn ClientCertVerifier> = match section.client_auth_type {
        ClientAuth::NoClientCert if has_ca => {
            return Err(
                "tls_server_config: client_ca needs a client_auth_type that looks at certificates".to_owned()
            );
        }
        ClientAuth::NoClientCert if !section.client_allowed_sans.is_empty() => {
            return Err(
                "tls_server_config: client_allowed_sans needs a client_auth_type that requires certificates"
                    .to_owned(),
            );
        }
        ClientAuth::NoClientCert => return Ok(None),
        ClientAuth::RequestClientCert => any(false),
        ClientAuth::RequireAnyClientCert => any(true),
        ClientAuth::VerifyClientCertIfGiven => signed()?.allow_unauthenticated().build().map_err(built)?,
        ClientAuth::RequireAndVerifyClientCert => signed()?.build().map_err(built)?,
    };
    if section.client_allowed_sans.is_empty() {
        return Ok(Some(inner));
    }
    if !inner.client_auth_mandatory() {
        return Err(
            "tls_server_config: client_allowed_sans needs a client_auth_type that requires certificates"
                .to_owned(),
        );
    }
    if let Some(mail) = section.client_allowed_sans.iter().find(|s| s.contains('@') && !s.contains("://")) {
        return Err(format!(
            "tls_server_config: client_allowed_sans: {mail:?}: addresses of mail are not looked at; use DNS, IP or URI"
        ));
    }
    Ok(Some(Arc::new(Named { inner, allowed: section.client_allowed_sans.clone() })))
}

/// Takes any certificate whose key the client has.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
    mandatory: bool,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes what `inner` takes, if it carries one of the allowed names.
#[derive(Debug)]
struct Named {
    inner: Arc<dyn ClientCertVerifier>,
    allowed: Vec<String>,
}

impl Named {
    fn allows(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else { return false };
        let is_address = |name: &String| {
            let address = name.parse::<std::net::IpAddr>().ok().map(|ip| ServerName::IpAddress(ip.into()));
            address.is_some_and(|ip| parsed.verify_is_valid_for_subject_name(&ip).is_ok())
        };
        let mut names = parsed.valid_dns_names().chain(parsed.valid_uri_names());
        names.any(|name| self.allowed.iter().any(|a| a == name)) || self.allowed.iter().any(is_address)
    }
}

impl ClientCertVerifier for Named {
    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        if self.allows(end_entity) {
            Ok(verified)
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
