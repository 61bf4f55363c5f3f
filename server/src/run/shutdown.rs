//! When to stop: SIGTERM or SIGINT begins an orderly end, a second one ends at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The exit status of a process that a second signal ended.
const EXIT_IMPATIENT: i32 = 130;

/// Listens for signals; what is returned turns true at the first. Others may end the server by the sender, too.
///
/// # Errors
/// The system refuses to deliver signals.
pub(super) fn on_signal() -> std::io::Result<(watch::Sender<bool>, watch::Receiver<bool>)> {
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let quit = stop.clone();
    tokio::spawn(async move {
        next(&mut terminate, &mut interrupt).await;
        tracing::info!("stopping: requests in flight are finished");
        // A receiver is held by `run` until the end.
        let _ = stop.send(true);
        next(&mut terminate, &mut interrupt).await;
        // Everything acknowledged is durable already; the next start replays the log.
        std::process::exit(EXIT_IMPATIENT);
    });
    Ok((quit, stopped))
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
