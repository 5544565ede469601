//! Tells systemd the state of the program (`Type=notify`), if systemd has started it.

use std::env;
use std::future::pending;
use std::process;
use std::sync::Arc;

use sd_notify::{NotifyState, notify, watchdog_enabled};
use server::Workers;
use tokio::time::{sleep, timeout};
use tracing::warn;

/// Says that the program serves. After a takeover its process becomes the main one.
pub fn ready() {
    tell(&[NotifyState::MainPid(process::id()), NotifyState::Ready, NotifyState::Status("serving")]);
}

/// Says that the program reads its settings anew. `reloaded` ends this.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "systemd is not told of the reload"),
    }
}

/// Says how the reload has ended.
pub(crate) fn reloaded(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that the program ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping: requests under way are finished")]);
}

/// Tells the watchdog twice in its period that the program lives, as long as every worker answers.
pub async fn keep_watchdog(workers: Arc<Workers>) {
    let Some(time) = watchdog_enabled() else { return pending().await };
    loop {
        if timeout(time / 2, workers.each(|| async {})).await.is_ok() {
            tell(&[NotifyState::Watchdog]);
        }
        sleep(time / 2).await;
    }
}

fn tell(state: &[NotifyState<'_>]) {
    let socket = env::var("NOTIFY_SOCKET").unwrap_or_default();
    let told = match socket.strip_prefix('@') {
        // `sd_notify` connects to files only.
        #[cfg(target_os = "linux")]
        Some(name) => tell_abstract(name, state),
        _ => notify(state),
    };
    if let Err(error) = told {
        warn!(%error, "systemd is not told");
    }
}

/// Sends to a socket that has a name and no file (sd_notify(3)).
#[cfg(target_os = "linux")]
fn tell_abstract(name: &str, state: &[NotifyState<'_>]) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let text: String = state.iter().map(|line| format!("{line}\n")).collect();
    let socket = SocketAddr::from_abstract_name(name)?;
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &socket).map(drop)
}
