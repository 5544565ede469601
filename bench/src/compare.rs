//! Comparison: the proxy and its peers side by side, in turn, in one run.

mod yardstick;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

pub(crate) use yardstick::Kind;

/// Runs a yardstick.
pub(crate) async fn yardstick(kind: Kind, listen: SocketAddr, size: usize) -> ExitCode {
    let served = tokio::task::spawn_blocking(move || yardstick::serve(kind, listen, size)).await;
    match served.map_err(io::Error::other).and_then(|served| served) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
