//! TLS: versions, client certificates, new certificates without a restart.

use crate::Fresh;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key as PEM.
fn issue(authority: &Issuer, names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn write_pair(dir: &Path, pair: &(String, String)) {
    std::fs::write(dir.join("server.crt"), &pair.0).unwrap();
    std::fs::write(dir.join("server.key"), &pair.1).unwrap();
}

/// A server with a certificate of `authority`, and more lines in `tls_server_config`.
fn start(authority: &Issuer, clients: &Issuer, more: &str) -> (Fresh, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), &issue(authority, &["localhost"]));
    std::fs::write(dir.path().join("clients.crt"), clients.pem()).unwrap();
    let text = format!("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n{more}");
    let path = dir.path().join("web.yml");
    std::fs::write(&path, text).unwrap();
    let folder = dir.path().to_owned();
    (Fresh::start_in(dir, &[&format!("--web.config.file={}", path.display())]), folder)
}

/// The answer, the agreed protocol, and the certificate of the server.
type Answer = (String, Option<Vec<u8>>, Vec<u8>);

struct Caller<'c> {
    trusted: &'c Issuer,
    pair: Option<(String, String)>,
    versions: Vec<&'static rustls::SupportedProtocolVersion>,
    alpn: &'static [&'static [u8]],
}

impl<'c> Caller<'c> {
    fn of(trusted: &'c Issuer) -> Self {
        Self { trusted, pair: None, versions: rustls::ALL_VERSIONS.to_vec(), alpn: &[] }
    }

    fn ask(&self, fresh: &Fresh) -> Result<Answer, String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.trusted.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.pair {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|p| p.to_vec()).collect();
        let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let socket = TcpStream::connect(fresh.server.address()).map_err(|e| e.to_string())?;
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        let request = b"GET /-/healthy HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request).map_err(|e| e.to_string())?;
        let agreed = stream.conn.alpn_protocol().map(<[u8]>::to_vec);
        if agreed.as_deref() == Some(b"h2") {
            return Ok((String::new(), agreed, Vec::new()));
        }
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(|e| e.to_string())?;
        let shown = stream.conn.peer_certificates().unwrap()[0].to_vec();
        Ok((text, agreed, shown))
    }
}

#[test]
fn versions_protocols_and_plain_text() {
    let (ca, clients) = (authority(), authority());
    let (fresh, _) = start(&ca, &clients, "  min_version: TLS13\n");
    let caller = Caller::of(&ca);
    assert!(caller.ask(&fresh).unwrap().0.contains("Kymo is Healthy."));
    assert!(Caller { versions: vec![&rustls::version::TLS12], ..Caller::of(&ca) }.ask(&fresh).is_err());
    let agreed = |alpn| Caller { alpn, ..Caller::of(&ca) }.ask(&fresh).unwrap().1;
    assert_eq!(agreed(&[b"h2", b"http/1.1"]).unwrap(), b"h2");
    assert_eq!(agreed(&[b"http/1.1"]).unwrap(), b"http/1.1");
    assert!(Caller::of(&clients).ask(&fresh).is_err(), "another authority");
    let response = fresh.client().get("/-/healthy").unwrap();
    assert_eq!(
        (response.status, response.text().as_str()),
        (400, "Client sent an HTTP request to an HTTPS server.\n")
    );

    let (fresh, _) = start(
        &ca,
        &clients,
        "  max_version: TLS12\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n  curve_preferences: [CurveP256]\nhttp_server_config: {http2: false}\n",
    );
    assert!(Caller { versions: vec![&rustls::version::TLS13], ..Caller::of(&ca) }.ask(&fresh).is_err());
    assert_eq!(
        Caller { alpn: &[b"h2", b"http/1.1"], ..Caller::of(&ca) }.ask(&fresh).unwrap().1.unwrap(),
        b"http/1.1"
    );
}

#[test]
fn client_certificates() {
    let (ca, clients, others) = (authority(), authority(), authority());
    let named = issue(&clients, &["sender.example"]);
    let other_name = issue(&clients, &["other.example"]);
    let by_address = issue(&clients, &["192.0.2.7"]);
    let stranger = issue(&others, &["sender.example"]);
    let signed = "  client_ca_file: clients.crt\n";
    let names = "  client_allowed_sans: [sender.example, 192.0.2.7]\n";
    // Mode, more lines, and who gets in: without certificate, named, with another name, by address, a stranger.
    let cases = [
        ("NoClientCert", String::new(), [true, true, true, true, true]),
        ("RequestClientCert", String::new(), [true, true, true, true, true]),
        ("RequireAnyClientCert", String::new(), [false, true, true, true, true]),
        ("VerifyClientCertIfGiven", signed.to_owned(), [true, true, true, true, false]),
        ("RequireAndVerifyClientCert", signed.to_owned(), [false, true, true, true, false]),
        ("RequireAndVerifyClientCert", format!("{signed}{names}"), [false, true, false, true, false]),
    ];
    let mut cells = 0;
    for (mode, more, expected) in cases {
        let (fresh, _) = start(&ca, &clients, &format!("  client_auth_type: {mode}\n{more}"));
        let pairs = [None, Some(&named), Some(&other_name), Some(&by_address), Some(&stranger)];
        for (i, pair) in pairs.into_iter().enumerate() {
            for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
                let versions = vec![version];
                let caller = Caller { pair: pair.cloned(), versions, ..Caller::of(&ca) };
                let answer = caller.ask(&fresh);
                let let_in = answer.as_ref().is_ok_and(|a| a.0.contains("Kymo is Healthy."));
                assert_eq!(let_in, expected[i], "{mode} {more:?} caller {i}: {answer:?}");
                cells += 1;
            }
        }
    }
    println!("tls cases={cells} wrong=0");
}

#[test]
fn certificates_are_read_again_and_a_bad_one_is_not_taken() {
    let (ca, clients) = (authority(), authority());
    let (fresh, dir) = start(&ca, &clients, "");
    let caller = Caller::of(&ca);
    let first = caller.ask(&fresh).unwrap().2;
    write_pair(&dir, &issue(&ca, &["localhost"]));
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut asked = 0;
    let second = loop {
        // Nobody is turned away meanwhile.
        let shown = caller.ask(&fresh).unwrap().2;
        asked += 1;
        if shown != first {
            break shown;
        }
        assert!(Instant::now() < deadline, "{}", fresh.server.output());
        std::thread::sleep(Duration::from_millis(50));
    };
    println!("tls asked_during_reload={asked} dropped=0");
    std::fs::write(dir.join("server.crt"), "no certificate").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !fresh.server.output().contains("the old one stays in force") {
        assert!(Instant::now() < deadline, "{}", fresh.server.output());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(caller.ask(&fresh).unwrap().2, second);
}
