//! The arguments of `fleet`.

use super::between;
use crate::fleet::{Means, Plan};

/// Say how a fleet grows with its proxies, nodes, pages and changes, and what breaks first
///
/// A model: pages are asked for by Zipf's law, every page changes as often as any other, and each change purges its page. Each
/// table changes one of the numbers below. In each row the requests grow until the first part is used to 80%.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        cargo run --bin bench -- fleet\n  \
                        cargo run --bin bench -- fleet --changes 500 --origin 200\n  \
                        cargo run --bin bench -- fleet --measure --proxies 3")]
pub(crate) struct FleetArgs {
    /// Instead of the model, run fleets of 1 proxy up to --proxies, at most 6, on this machine, and compare them with the
    /// model; exit with status 1 if the model is off by more than a quarter, or if a request fails
    #[arg(long)]
    pub(crate) measure: bool,

    /// How many proxies; 3, or with --measure 6, if this is not given
    #[arg(long, value_name = "COUNT", value_parser = between(1, 100))]
    pub(crate) proxies: Option<usize>,

    /// Primaries of the cluster
    #[arg(long, value_name = "COUNT", default_value = "3", value_parser = between(1, 30))]
    nodes: usize,

    /// How many pages the site has
    #[arg(long, value_name = "COUNT", default_value = "1000000", value_parser = between(1, 1_000_000_000))]
    pages: usize,

    /// How many pages change in a second
    #[arg(long, value_name = "COUNT", default_value = "10", value_parser = between(0, 1_000_000))]
    changes: usize,

    /// The timeout of the pages, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = between(1, 31_536_000))]
    timeout: usize,

    /// The near cache of a proxy, in MB; 0 is none
    #[arg(long, value_name = "MB", default_value = "256", value_parser = between(0, 1_000_000))]
    near: usize,

    /// Cores of a proxy
    #[arg(long, value_name = "COUNT", default_value = "2", value_parser = between(1, 1_000))]
    cores: usize,

    /// Memory of a node, in MB
    #[arg(long, value_name = "MB", default_value = "8000", value_parser = between(1, 100_000_000))]
    memory: usize,

    /// How many requests the origin answers in a second
    #[arg(long, value_name = "COUNT", default_value = "1000", value_parser = between(1, 10_000_000))]
    origin: usize,
}

/// The size of a page in bytes, which the measured costs are for.
const PAGE: f64 = 14e3;

impl FleetArgs {
    /// The fleet that the tables begin with.
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            proxies: self.proxies.unwrap_or(3) as f64,
            nodes: self.nodes as f64,
            pages: self.pages as f64,
            requests: 0.0,
            changes: self.changes as f64,
            timeout: self.timeout as f64,
            near: (self.near as f64 * 1e6 / PAGE).floor(),
        }
    }

    pub(crate) fn means(&self) -> Means {
        Means {
            cores: self.cores as f64,
            origin: self.origin as f64,
            memory: self.memory as f64 * 1e6,
            page: PAGE,
        }
    }
}
