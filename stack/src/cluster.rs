//! A private Redis Cluster: primaries, each with the same number of replicas.

use std::io;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::redis::cli;
use super::{Brand, Redis, StackError, free_port};

/// How long a node may be silent, in milliseconds, before the others consider it gone.
const NODE_TIMEOUT: &str = "500";

/// The servers of a cluster. They are ended and removed when this is dropped or this process ends.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, first those that began as primaries.
    pub nodes: Vec<Redis>,
    brand: Brand,
    /// The nodes' maps of the cluster, by which a node that is restarted finds its place again.
    _folder: TempDir,
}

impl Cluster {
    /// Starts an empty cluster, and waits until all nodes agree that it is complete.
    pub fn start(brand: Brand, primaries: usize, replicas: usize) -> Result<Self, StackError> {
        let folder = tempfile::Builder::new().prefix("cachepage-").tempdir()?;
        let options = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            NODE_TIMEOUT,
            "--cluster-replica-validity-factor",
            "0",
            "--cluster-require-full-coverage",
            "no",
            "--repl-diskless-sync-delay",
            "0",
            "--repl-ping-replica-period",
            "1",
        ];
        let start = |index| {
            let file = folder.path().join(format!("{index}.conf")).display().to_string();
            let options = [&options[..], &["--cluster-config-file", &file]].concat();
            Redis::start_at(node_port()?, brand, &options)
        };
        let nodes = (0..primaries * (1 + replicas)).map(start).collect::<Result<_, _>>()?;
        let cluster = Self { nodes, brand, _folder: folder };
        let addresses: Vec<_> = cluster.nodes.iter().map(address).collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        let replicas = replicas.to_string();
        create.extend(["--cluster-replicas", &replicas, "--cluster-yes"]);
        cli(brand, &[], &create)?;
        cluster.wait_until_complete()?;
        Ok(cluster)
    }

    /// The URL, with all nodes as seeds.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(address).collect();
        format!("redis-cluster://{}", addresses.join(","))
    }

    /// Runs a command on the node that has its key, and returns the raw output.
    pub fn cli(&self, args: &[&str]) -> Result<String, StackError> {
        cli(self.brand, &["-c", "-p", &self.nodes[0].port().to_string(), "--raw"], args)
    }

    /// The index of the node that has a key, according to the first node that answers.
    pub fn owner(&self, key: &str) -> Option<usize> {
        let slot: u16 = self.first_answer(&["CLUSTER", "KEYSLOT", key])?.parse().ok()?;
        let slots = self.first_answer(&["CLUSTER", "NODES"])?;
        let is_in = |range: &str| match range.split_once('-') {
            Some((first, last)) => {
                first.parse().is_ok_and(|first: u16| first <= slot)
                    && last.parse().is_ok_and(|last: u16| slot <= last)
            }
            None => range.parse() == Ok(slot),
        };
        let line = slots.lines().find(|line| line.split(' ').skip(8).any(is_in))?;
        let port = line.split(' ').nth(1)?.split(['@', ',']).next()?.rsplit(':').next()?.parse().ok()?;
        self.nodes.iter().position(|node| node.port() == port)
    }

    /// The index of a replica of the node with this index.
    pub fn replica_of(&self, primary: usize) -> Option<usize> {
        let id = self.nodes[primary].cli(&["CLUSTER", "MYID"]).ok()?;
        let nodes = self.first_answer(&["CLUSTER", "NODES"])?;
        let line = nodes.lines().find(|line| line.split(' ').nth(3) == Some(&id))?;
        let port = line.split(' ').nth(1)?.split(['@', ',']).next()?.rsplit(':').next()?.parse().ok()?;
        self.nodes.iter().position(|node| node.port() == port)
    }

    /// Moves slots with all their keys from one primary to another.
    pub fn move_slots(&self, from: usize, to: usize, count: usize) -> Result<(), StackError> {
        let id = |node: usize| self.nodes[node].cli(&["CLUSTER", "MYID"]);
        let (address, from, to) = (address(&self.nodes[from]), id(from)?, id(to)?);
        let options = ["--cluster-from", &from, "--cluster-to", &to, "--cluster-slots", &count.to_string()];
        let command = [&["--cluster", "reshard", &address][..], &options, &["--cluster-yes"]].concat();
        cli(self.brand, &[], &command).map(drop)
    }

    fn first_answer(&self, args: &[&str]) -> Option<String> {
        self.nodes.iter().find_map(|node| node.cli(args).ok())
    }

    /// Waits until each node that answers knows all slots and its replica is up to date.
    pub fn wait_until_complete(&self) -> Result<(), StackError> {
        const PATIENCE: Duration = Duration::from_secs(30);
        let started = Instant::now();
        let is_ok = |node: &Redis| {
            let state = node.cli(&["CLUSTER", "INFO"]).unwrap_or_default();
            let link = node.cli(&["INFO", "replication"]).unwrap_or_default();
            state.contains("cluster_state:ok")
                && state.contains("cluster_slots_ok:16384")
                && !link.contains("master_link_status:down")
        };
        while !self.nodes.iter().all(is_ok) {
            if started.elapsed() > PATIENCE {
                return Err(StackError::NotReady {
                    program: "the cluster".to_owned(),
                    why: format!("not within {} s", PATIENCE.as_secs()),
                    log: self.first_answer(&["CLUSTER", "NODES"]).unwrap_or_default(),
                });
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// A free port whose bus port, 10,000 above, is free as well. Both are outside of the range that the system assigns by itself.
fn node_port() -> io::Result<u16> {
    const BUS: u16 = 10_000;
    const TRIES: usize = 1_000;
    let is_free = |port: u16| port < 32_768 && TcpListener::bind(("127.0.0.1", port)).is_ok();
    let free = (0..TRIES).filter_map(|_| free_port().ok()).find(|port| is_free(port + BUS));
    free.ok_or_else(|| io::ErrorKind::AddrInUse.into())
}

fn address(node: &Redis) -> String {
    format!("127.0.0.1:{}", node.port())
}
