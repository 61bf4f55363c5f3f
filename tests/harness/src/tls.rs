//! TLS of tests: an authority of their own, a certificate of it for a server, and clients that believe it.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The name in the certificate.
const NAME: &str = "localhost";

/// What a server and its clients need to speak TLS with each other.
#[derive(Debug, Clone)]
pub struct Tls {
    /// What the server is given as `--web.config.file`.
    pub web_config: PathBuf,
    client: Arc<ClientConfig>,
}

impl Tls {
    /// Makes an authority, a certificate and the file of configuration in `dir`.
    ///
    /// # Errors
    /// Something cannot be made or written.
    pub fn make(dir: &Path) -> Result<Self, String> {
        let mut params = CertificateParams::new(Vec::new()).map_err(told)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(told)?).map_err(told)?;
        let key = KeyPair::generate().map_err(told)?;
        let params = CertificateParams::new(vec![NAME.to_owned()]).map_err(told)?;
        let certificate = params.signed_by(&key, &authority).map_err(told)?;
        fs::create_dir_all(dir).map_err(told)?;
        fs::write(dir.join("server.crt"), certificate.pem()).map_err(told)?;
        fs::write(dir.join("server.key"), key.serialize_pem()).map_err(told)?;
        let web_config = dir.join("web.yml");
        let text = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";
        fs::write(&web_config, text).map_err(told)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).map_err(told)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(told)?;
        let client = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        Ok(Self { web_config, client })
    }
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A connection, by TLS or plain.
#[derive(Debug)]
pub enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// With it.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Connects; each read and write may take `timeout`.
    ///
    /// # Errors
    /// The connection failed.
    pub fn connect(address: SocketAddr, timeout: Duration, tls: Option<&Tls>) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, timeout)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))?;
        let Some(tls) = tls else { return Ok(Self::Plain(socket)) };
        let name = NAME.try_into().map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(&tls.client), name).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(session, socket))))
    }

    /// What the bytes go over.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
