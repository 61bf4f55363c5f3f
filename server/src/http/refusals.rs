//! Clients that are told why before the door closes. A socket closed while its client still sends takes back what the client has not
//! read yet, so some of those who are refused at a time are listened to for a moment; the others may miss the reason.

use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// What a client beyond the limit of connections is told.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 5\r\n\
    Content-Length: 59\r\nConnection: close\r\n\r\ntoo many connections; the limit is set by --max-connections\n";
/// So many are listened to at a time after they were refused,
const HEARD_MAX: usize = 64;
/// for so long,
const HEARD_TIME: Duration = Duration::from_secs(1);
/// and as long as they send no more than this, in bytes: who was turned away at the door,
const TURNED_AWAY_BYTES_MAX: u64 = 64 << 10;
/// and who sends a body that nobody reads.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// The places for those who are listened to.
#[derive(Debug)]
pub(super) struct Refusals(Arc<Semaphore>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(HEARD_MAX)))
    }
}

impl Refusals {
    /// Tells one client too many that he is.
    pub(super) fn turn_away(&self, mut stream: TcpStream) {
        let Ok(place) = Arc::clone(&self.0).try_acquire_owned() else {
            // Right away: the runtime does not know yet whether it can be written to.
            let _ = socket2::SockRef::from(&stream).send(TOO_MANY);
            return;
        };
        tokio::spawn(async move {
            let told = async {
                stream.write_all(TOO_MANY).await?;
                stream.shutdown().await?;
                tokio::io::copy(&mut stream.take(TURNED_AWAY_BYTES_MAX), &mut tokio::io::sink()).await
            };
            // Whoever does not read it is closed out all the same.
            let _ = tokio::time::timeout(HEARD_TIME, told).await;
            drop(place);
        });
    }

    /// Listens to a client that was answered before his body was read.
    pub(super) async fn hear_out(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Ok(_place) = self.0.try_acquire() else { return };
        let heard = async {
            let _ = stream.shutdown().await;
            tokio::io::copy(&mut stream.take(BODY_BYTES_MAX), &mut tokio::io::sink()).await
        };
        let _ = tokio::time::timeout(HEARD_TIME, heard).await;
    }
}
