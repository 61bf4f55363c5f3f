//! The handles by which reload and quit are asked for; `run` carries them out.

use tokio::sync::{mpsc, oneshot, watch};

/// Where the answer to a reload goes: the mistake, if there was one.
pub type ReloadReply = oneshot::Sender<Result<(), String>>;

/// The handles of what can be asked for.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    /// Asks for a reload.
    pub reload: mpsc::Sender<ReloadReply>,
    /// Turns true to end the server.
    pub quit: watch::Sender<bool>,
}
