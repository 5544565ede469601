//! What stands behind the proxy of a scene.

use stack::{Brand, Cluster, Redis, StackError, Watched};

/// One Redis or, if `CACHEPAGE_TEST_STORE` says `sentinel` or `cluster`, that. With `CACHEPAGE_TEST_BRAND=valkey` each is
/// a Valkey.
pub(crate) enum Backend {
    Alone(Redis),
    Sentinel(Watched),
    Cluster(Cluster),
}

impl Backend {
    pub(crate) fn start() -> Result<Self, StackError> {
        Self::start_with(0)
    }

    /// The same, but each primary of a cluster has a replica.
    pub(crate) fn start_with_replicas() -> Result<Self, StackError> {
        Self::start_with(1)
    }

    fn start_with(replicas: usize) -> Result<Self, StackError> {
        let brand = Brand::chosen();
        match std::env::var("CACHEPAGE_TEST_STORE").as_deref() {
            Ok("sentinel") => Watched::start(brand).map(Self::Sentinel),
            Ok("cluster") => Cluster::start(brand, 3, replicas).map(Self::Cluster),
            Ok("redis") | Err(_) => Redis::start().map(Self::Alone),
            Ok(other) => panic!("CACHEPAGE_TEST_STORE is redis, sentinel or cluster, not {other:?}"),
        }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Alone(redis) => redis.url(),
            Self::Sentinel(watched) => watched.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// The ports of all that a proxy connects to.
    pub(crate) fn ports(&mut self) -> Vec<u16> {
        let mut ports: Vec<_> = self.servers().iter().map(Redis::port).collect();
        if let Self::Sentinel(watched) = self {
            ports.extend(watched.sentinel_ports());
        }
        ports
    }

    /// Its servers, the first of which began as a primary.
    pub(crate) fn servers(&mut self) -> &mut [Redis] {
        match self {
            Self::Alone(redis) => std::slice::from_mut(redis),
            Self::Sentinel(watched) => &mut watched.servers,
            Self::Cluster(cluster) => &mut cluster.nodes,
        }
    }

    /// The server that has a key.
    pub(crate) fn server_of(&self, key: &str) -> &Redis {
        match self {
            Self::Alone(redis) => redis,
            Self::Sentinel(watched) => &watched.servers[watched.master().unwrap_or_default()],
            Self::Cluster(cluster) => &cluster.nodes[cluster.owner(key).unwrap_or_default()],
        }
    }

    /// Starts all its servers anew, empty.
    pub(crate) fn restart(&mut self) -> Result<(), StackError> {
        match self {
            Self::Alone(redis) => redis.restart(),
            Self::Sentinel(watched) => {
                (0..watched.servers.len()).try_for_each(|server| watched.restart(server))
            }
            Self::Cluster(cluster) => {
                cluster.nodes.iter_mut().try_for_each(Redis::restart)?;
                cluster.wait_until_complete()
            }
        }
    }

    /// Ends all its servers.
    pub(crate) fn stop(&mut self) {
        self.servers().iter_mut().for_each(Redis::stop);
    }

    /// Runs `redis-cli`: on the node that has the key or, for a command on all keys, on each node.
    pub(crate) fn cli(&self, args: &[&str]) -> Result<String, StackError> {
        match self {
            Self::Alone(redis) => redis.cli(args),
            Self::Sentinel(_) => self.server_of("").cli(args),
            Self::Cluster(cluster) if ["CLIENT", "FLUSHALL", "FLUSHDB", "KEYS"].contains(&args[0]) => {
                let said: Result<Vec<_>, _> = cluster.nodes.iter().map(|node| node.cli(args)).collect();
                let said = said?.into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>();
                Ok(said.join("\n"))
            }
            Self::Cluster(cluster) => cluster.cli(args),
        }
    }
}
