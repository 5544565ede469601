//! The arguments of the commands that load a given server, and of the yardstick.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::between;
use crate::load::Target;

/// Each connection needs a local port, and most machines have few more than this for one address.
const MAX_AT_ONCE: u64 = 20_000;

/// Send requests at once, and show each one's time
///
/// All connections are made first; then all requests are sent together. A time runs from there to the last byte of the
/// answer. Failures (a status of 400 or more, refused, broken, timed out) are counted by kind.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples, against the running demo:\n  \
                        bench bombard http://localhost:8000/api/properties/cached/\n  \
                        bench bombard -n 64 --duration 10 http://localhost:8000/api/properties/cached/")]
pub(crate) struct BombardArgs {
    /// Page to ask for, http only
    pub(crate) url: Target,

    /// How many requests
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "50", value_parser = between(1, MAX_AT_ONCE))]
    pub(crate) number: usize,

    /// Repeat the requests for this time, in seconds, as wrk does
    #[arg(short, long, value_name = "SECONDS", value_parser = between(1, 86_400))]
    pub(crate) duration: Option<usize>,

    /// Exit with status 1 if any request failed
    #[arg(long)]
    pub(crate) fail_on_error: bool,
}

/// Load a running demo with the article's users: five read the cached page for each one that reads the naive page
///
/// A user of the cached page waits 1 to 2 s between an answer and the next request, a user of the naive page 2 to 5 s,
/// as in bench/locustfile.py. With --rate, requests are due at a fixed rate instead, even while users still wait, and
/// times count from when they were due. Ctrl-C ends the load and shows what was measured so far.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples, against the running demo:\n  \
                        bench mixed\n  \
                        bench mixed --users 500 --spawn-rate 50 --duration 30\n  \
                        bench mixed --rate 200 --json mixed.json && bench report mixed.json")]
pub(crate) struct MixedArgs {
    /// The site: scheme, host and port of the proxy
    #[arg(value_name = "URL", default_value = "http://localhost:8000")]
    pub(crate) site: String,

    /// How many users
    #[arg(short, long, value_name = "COUNT", default_value = "100", value_parser = between(1, MAX_AT_ONCE))]
    pub(crate) users: usize,

    /// How many users start each second
    #[arg(short = 'r', long, value_name = "RATE", default_value = "10", value_parser = rate)]
    pub(crate) spawn_rate: f64,

    /// For how long, in seconds
    #[arg(short = 't', long, value_name = "SECONDS", default_value = "60", value_parser = between(1, 86_400))]
    pub(crate) duration: usize,

    /// Requests per second of all users together, instead of each user's own pace
    #[arg(long, value_name = "RATE", value_parser = rate, conflicts_with = "spawn_rate")]
    pub(crate) rate: Option<f64>,

    /// Where to save all samples and their summary
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Exit with status 1 if any request failed
    #[arg(long)]
    pub(crate) fail_on_error: bool,
}

/// Serve one prepared answer as fast as possible, to show the limit of the load loop
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct YardstickArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,

    /// How large the body is, in bytes
    #[arg(long, value_name = "BYTES", default_value = "14000", value_parser = between(0, 100_000_000))]
    pub(crate) size: usize,
}

/// Parses a rate: above 0, and not more than a load loop can follow.
fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    if (0.001..=1_000_000.0).contains(&rate) { Ok(rate) } else { Err("it must be above 0".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_above_zero() {
        assert_eq!(rate("10"), Ok(10.0));
        assert_eq!(rate("0.5"), Ok(0.5));
        for text in ["0", "-1", "NaN", "inf", "ten", ""] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
