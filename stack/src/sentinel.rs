//! A private Redis with a replica, and three Sentinels that watch over them.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::redis::{cli, launch_from};
use super::{Brand, Program, Redis, StackError, free_port, new_folder};

/// The name that the Sentinels have for the master.
const NAME: &str = "pages";

/// A master, its replica, and the Sentinels. They are ended and removed when this is dropped or this process ends.
#[derive(Debug)]
pub struct Watched {
    /// The servers; the first began as the master.
    pub servers: Vec<Redis>,
    sentinels: Vec<(Program, u16)>,
    brand: Brand,
}

impl Watched {
    /// Starts all of them, and waits until the Sentinels know each other and the replica.
    pub fn start(brand: Brand) -> Result<Self, StackError> {
        let master = Redis::start_as(brand, &["--repl-diskless-sync-delay", "0"])?;
        let port = master.port();
        let replica_of = format!("127.0.0.1 {port}");
        let replica = Redis::start_as(brand, &["--replicaof", &replica_of])?;
        let sentinels = (0..3).map(|_| sentinel(brand, port)).collect::<Result<_, _>>()?;
        let watched = Self { servers: vec![master, replica], sentinels, brand };
        watched.wait_until_ready()?;
        Ok(watched)
    }

    /// The URL of database 1 of the master.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|(_, port)| format!("127.0.0.1:{port}")).collect();
        format!("redis-sentinel://{}/{NAME}/1", hosts.join(","))
    }

    /// The index of the server that the Sentinels call the master.
    pub fn master(&self) -> Option<usize> {
        let answer = self.sentinel_cli(0, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).ok()?;
        let port = answer.lines().nth(1)?.parse().ok()?;
        self.servers.iter().position(|server| server.port() == port)
    }

    /// Asks the Sentinels to make the replica the master.
    pub fn fail_over(&self) -> Result<String, StackError> {
        self.sentinel_cli(0, &["SENTINEL", "FAILOVER", NAME])
    }

    /// The ports of the Sentinels.
    pub fn sentinel_ports(&self) -> impl Iterator<Item = u16> {
        self.sentinels.iter().map(|(_, port)| *port)
    }

    /// Ends a server, if it still runs, and starts it empty with the role that the Sentinels have given it.
    pub fn restart(&mut self, index: usize) -> Result<(), StackError> {
        self.servers[index].restart()?;
        self.assign(index)
    }

    /// Gives a server its role at once. The Sentinels take some seconds to do that.
    pub fn assign(&self, index: usize) -> Result<(), StackError> {
        let master = self.master().filter(|master| *master != index);
        let port = master.map(|master| self.servers[master].port().to_string());
        let place = port.as_ref().map_or(["NO", "ONE"], |port| ["127.0.0.1", port]);
        self.servers[index].cli(&["REPLICAOF", place[0], place[1]]).map(drop)
    }

    /// Ends one of the Sentinels.
    pub fn stop_sentinel(&mut self, index: usize) {
        self.sentinels[index].0.stop();
    }

    fn sentinel_cli(&self, index: usize, args: &[&str]) -> Result<String, StackError> {
        cli(self.brand, &["-p", &self.sentinels[index].1.to_string(), "--raw"], args)
    }

    /// Waits until each Sentinel sees the replica and the two others.
    pub fn wait_until_ready(&self) -> Result<(), StackError> {
        const PATIENCE: Duration = Duration::from_secs(30);
        let started = Instant::now();
        let state = |index| self.sentinel_cli(index, &["INFO", "sentinel"]).unwrap_or_default();
        let is_ready = |index| {
            let state = state(index);
            state.contains("slaves=1") && state.contains("sentinels=3") && state.contains("status=ok")
        };
        while !(0..self.sentinels.len()).all(is_ready) {
            if started.elapsed() > PATIENCE {
                return Err(StackError::NotReady {
                    program: "the Sentinels".to_owned(),
                    why: format!("not within {} s", PATIENCE.as_secs()),
                    log: state(0),
                });
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Starts a Sentinel. It writes its state into its file of settings.
fn sentinel(brand: Brand, master: u16) -> Result<(Program, u16), StackError> {
    let (folder, port) = (new_folder()?, free_port()?);
    let file = folder.join("sentinel.conf");
    let settings = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {NAME} 127.0.0.1 {master} 2\n\
         sentinel down-after-milliseconds {NAME} 300\nsentinel failover-timeout {NAME} 2000\n",
        folder.display()
    );
    fs::write(&file, settings)?;
    Ok((launch_from(brand, &folder, &file, port)?, port))
}
