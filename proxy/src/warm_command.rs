//! The command `proxy warm`.

use indicatif::{ProgressBar, ProgressStyle};
use proxy::{Warm, Warmed};
use server::ListenAddress;
use std::io::{self, IsTerminal as _};

/// Has the running proxy fetch pages.
pub(crate) async fn warm(listens: Option<&ListenAddress>, asked: &Warm) -> Result<Warmed, String> {
    let listens = match listens {
        Some(ListenAddress::Tcp(address)) if address.port() > 0 => *address,
        _ => {
            return Err(
                "warm asks a port without certificates and proxy_protocol: --listen names it".to_owned()
            );
        }
    };
    let bar = bar();
    let warmed = Warmed::of(asked, listens, |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    let warmed = warmed.await;
    bar.finish_and_clear();
    warmed
}

/// A progress bar on a terminal.
fn bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} pages, {elapsed}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
