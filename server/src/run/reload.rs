//! Reads the configuration again: at SIGHUP, when asked over HTTP, and, for the web configuration, when a file changes.

use crate::config::file::ConfigFile;
use crate::config::flags::ServeFlags;
use crate::config::settings::Settings;
use crate::http::app::App;
use crate::http::lifecycle::ReloadReply;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

/// How often the files of the web configuration are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The flags and the configuration file.
///
/// # Errors
/// The first mistake in the file, with its place.
pub(super) fn settings(flags: &ServeFlags) -> Result<Settings, String> {
    let file = match &flags.config {
        Some(path) => ConfigFile::read(path)?,
        None => ConfigFile::default(),
    };
    Ok(Settings::resolve(flags, file))
}

/// Listens for SIGHUP.
///
/// # Errors
/// The system refuses to deliver signals.
pub(super) fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Who may ask for a reload.
#[derive(Debug)]
pub(super) struct Reasons {
    pub(super) hangups: Signal,
    pub(super) requests: mpsc::Receiver<ReloadReply>,
}

/// Reloads whenever there is reason to, until the server stops. One reload at a time.
pub(super) async fn run(app: App, reasons: Arc<Mutex<Reasons>>, mut stopped: watch::Receiver<bool>) {
    let mut reasons = reasons.lock().await;
    let Reasons { hangups, requests } = &mut *reasons;
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop(&mut stopped) => return,
            Some(reply) = requests.recv() => {
                // Whoever asked may have left.
                let _ = reply.send(reload(&app).await);
            }
            // The mistake is in the log; nobody waits for it.
            Some(()) = hangups.recv() => drop(reload(&app).await),
            _ = look.tick() => drop(web(&app, false).await),
        }
    }
}

async fn stop(stopped: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, which means the same.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Reads all again. Nothing changes unless all of it is good.
async fn reload(app: &App) -> Result<(), String> {
    let flags = app.flags.clone();
    let read = tokio::task::spawn_blocking(move || settings(&flags)).await;
    let result = match read.unwrap_or_else(|failure| Err(format!("reading met a bug of Kymo: {failure}"))) {
        // The web configuration is put in force only if it is good too, and then nothing can fail any more.
        Ok(settings) => match web(app, true).await {
            Ok(()) => app.set_settings(settings),
            Err(why) => Err(why),
        },
        Err(why) => Err(why),
    };
    app.metrics.config_good.set(i64::from(result.is_ok()));
    match &result {
        Ok(()) => {
            app.metrics.config_good_ms.set(app.clock.now_ms());
            tracing::info!("the configuration was read again");
        }
        Err(why) => tracing::error!(%why, "the configuration was not read again; the old one stays in force"),
    }
    result
}

/// Reads the web configuration again, if it changed or `always`.
async fn web(app: &App, always: bool) -> Result<(), String> {
    let gatekeeper = Arc::clone(&app.gatekeeper);
    let read = tokio::task::spawn_blocking(move || gatekeeper.refresh(always)).await;
    let Some(result) =
        read.unwrap_or_else(|failure| Some(Err(format!("reading met a bug of Kymo: {failure}"))))
    else {
        return Ok(());
    };
    app.metrics.web_config_good.set(i64::from(result.is_ok()));
    match &result {
        Ok(()) => tracing::info!("the web configuration and what it names were read again"),
        Err(why) => {
            tracing::error!(%why, "the web configuration was not read again; the old one stays in force");
        }
    }
    result
}
