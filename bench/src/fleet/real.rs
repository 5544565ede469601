//! A fleet that runs on this machine: an origin in memory, a cluster of three nodes, proxies, and one address for all.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Sub;
use std::time::Duration;

use stack::{Brand, Cluster, free_port};
use tokio::task::spawn_blocking;

use super::plan::Plan;
use crate::compare::client::{self, Client};
use crate::compare::measure::cpu;
use crate::laboratory::{Balancer, LabError, Programs, Server};

/// The nodes of its cluster.
pub(super) const NODES: usize = 3;

/// The parts of a fleet. Each part ends before the parts that it needs.
pub(super) struct RealFleet {
    balancer: Balancer,
    proxies: Vec<Server>,
    admins: Vec<SocketAddr>,
    origin: Server,
    cluster: Cluster,
}

/// The work that a fleet has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) hits: f64,
    pub(super) near_hits: f64,
    pub(super) origin: f64,
    pub(super) purges: f64,
    pub(super) invalidations: f64,
    /// The CPU time in seconds, of all proxies and of all nodes.
    pub(super) proxies_cpu: f64,
    pub(super) nodes_cpu: f64,
}

impl RealFleet {
    pub(super) async fn start(programs: &Programs, plan: &Plan) -> Result<Self, LabError> {
        let cluster = spawn_blocking(|| Cluster::start(Brand::chosen(), NODES, 0)).await??;
        let this = env::current_exe()?;
        let origin =
            Server::start("yardstick", 0, &this, |origin, _| Ok(origin.args(["floor", "hyper"]))).await?;
        let port = free_port()?;
        let (mut proxies, mut admins) = (Vec::new(), Vec::new());
        for _ in 0..plan.proxies as usize {
            let mut proxy = Server::start("proxy", 0, &programs.path("proxy"), |proxy, folder| {
                let file = folder.join("cachepage.toml");
                std::fs::write(&file, settings(plan, &cluster.url(), origin.port, port))?;
                Ok(proxy.args(["--config".as_ref(), file.as_os_str()]).args(["--admin", "127.0.0.1:0"]))
            })
            .await?;
            admins.push(local(proxy.port_of("admin").await?));
            proxies.push(proxy);
        }
        let balancer = Balancer::start(port, proxies.iter().map(|proxy| proxy.port).collect()).await?;
        Ok(Self { balancer, proxies, admins, origin, cluster })
    }

    /// The address of all proxies.
    pub(super) fn address(&self) -> SocketAddr {
        local(self.balancer.port)
    }

    pub(super) fn counts(&self) -> Result<Counts, LabError> {
        let mut counts =
            Counts { origin: client::count(local(self.origin.port))? as f64, ..Counts::default() };
        for admin in &self.admins {
            let text = Client::to(*admin).ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
            let text = String::from_utf8_lossy(&text);
            counts.hits += sum(&text, "cachepage_requests_total", "outcome=\"hit\"");
            counts.near_hits += sum(&text, "cachepage_near_hits_total", "");
            counts.purges += sum(&text, "cachepage_purges_total", "");
            counts.invalidations += sum(&text, "cachepage_invalidations_total", "");
        }
        let seconds = |pids: Vec<u32>| cpu(&pids).as_secs_f64();
        counts.proxies_cpu = seconds(self.proxies.iter().map(|proxy| proxy.program.pid()).collect());
        counts.nodes_cpu = seconds(self.cluster.nodes.iter().map(stack::Redis::pid).collect());
        Ok(counts)
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            hits: self.hits - before.hits,
            near_hits: self.near_hits - before.near_hits,
            origin: self.origin - before.origin,
            purges: self.purges - before.purges,
            invalidations: self.invalidations - before.invalidations,
            proxies_cpu: self.proxies_cpu - before.proxies_cpu,
            nodes_cpu: self.nodes_cpu - before.nodes_cpu,
        }
    }
}

impl Counts {
    /// The same counts for one second.
    pub(super) fn per_second(self, time: Duration) -> Self {
        let of = |count: f64| count / time.as_secs_f64();
        Self {
            hits: of(self.hits),
            near_hits: of(self.near_hits),
            origin: of(self.origin),
            purges: of(self.purges),
            invalidations: of(self.invalidations),
            proxies_cpu: of(self.proxies_cpu),
            nodes_cpu: of(self.nodes_cpu),
        }
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn settings(plan: &Plan, store: &str, origin: u16, site: u16) -> String {
    format!(
        "origin = \"http://127.0.0.1:{origin}\"\nstore = \"{store}\"\nsite = \"localhost:{site}\"\nnear = \"64MiB\"\n\
         [purge]\nallow = [\"127.0.0.1\"]\n[[cache_page]]\npath = \"/page/*\"\ntimeout = {}\n",
        plan.timeout
    )
}

/// The sum of a family's series that have this label.
fn sum(metrics: &str, family: &str, label: &str) -> f64 {
    let is_meant = |line: &&str| {
        line.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
    };
    let values =
        metrics.lines().filter(is_meant).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_of_a_family_are_summed() {
        let text = "# HELP a_total x 9\na_total{b=\"c\"} 1\na_total{b=\"d\"} 2\na_total_more 4\nb_total 8\n";
        assert_eq!((sum(text, "a_total", ""), sum(text, "a_total", "b=\"d\"")), (3.0, 2.0));
        assert_eq!(sum(text, "b_total", ""), 8.0);
    }
}
