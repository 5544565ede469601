//! The store of the proxy: a private Redis, the user's Redis, a private cluster, or memory.

use stack::{Brand, Cluster, Program, Redis, StackError};
use tokio::task::spawn_blocking;

use super::Setup;
use super::error::LabError;

/// The kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StoreKind {
    Redis,
    Memory,
    /// A cluster, with a fleet of proxies before it.
    Cluster,
}

/// The store of the proxy.
#[derive(Debug)]
pub(crate) enum Pages {
    /// A private Redis.
    Private(Redis),
    /// The user's Redis.
    Given(String),
    /// The proxy's memory.
    Memory,
    /// A private cluster of three primaries, each with a replica.
    Cluster(Cluster),
}

impl Pages {
    pub(crate) async fn find(setup: &Setup) -> Result<Self, LabError> {
        if setup.store == Some(StoreKind::Memory) {
            return Ok(Self::Memory);
        }
        if setup.store == Some(StoreKind::Cluster) {
            println!("Starting a private Redis Cluster: three primaries and three replicas.");
            let cluster = spawn_blocking(|| Cluster::start(Brand::chosen(), 3, 1)).await?;
            return Ok(Self::Cluster(cluster?));
        }
        if let Some(url) = &setup.redis_url {
            println!("Using the Redis of REDIS_URL; only the article's keys are changed.");
            return Ok(Self::Given(url.clone()));
        }
        println!("Starting a private Redis.");
        match spawn_blocking(Redis::start).await? {
            Ok(redis) => Ok(Self::Private(redis)),
            Err(missing @ StackError::Missing { .. }) if setup.store.is_none() => {
                println!("{missing}\nWithout Redis the proxy keeps pages in its memory (--store memory).");
                Ok(Self::Memory)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The value for the proxy's `--store`.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Private(redis) => redis.url(),
            Self::Given(url) => url.clone(),
            Self::Memory => "memory".to_owned(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// The URL of the Redis, if it is a single one.
    pub(crate) fn redis_url(&self) -> Option<String> {
        matches!(self, Self::Private(_) | Self::Given(_)).then(|| self.url())
    }

    /// How many proxies share it.
    pub(super) fn proxies(&self) -> usize {
        if matches!(self, Self::Cluster(_)) { 3 } else { 1 }
    }

    /// The version of a private Redis.
    pub(crate) fn version(&self) -> Result<String, LabError> {
        let Self::Private(redis) = self else { return Err(LabError::Foreign("Redis")) };
        let info = redis.cli(&["INFO", "server"])?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        Ok(version.unwrap_or_default().trim().to_owned())
    }

    pub(crate) fn program(&mut self) -> Option<&mut Program> {
        match self {
            Self::Private(redis) => Some(redis.program()),
            // A cluster goes on without one of its nodes, so the death of a node is no failure.
            Self::Given(_) | Self::Memory | Self::Cluster(_) => None,
        }
    }

    /// How to reach Redis. The user's URL is not shown, since it may hold a password.
    pub(crate) fn hint(&self) -> Option<String> {
        let url = match self {
            Self::Private(redis) => redis.url(),
            Self::Given(_) => "\"$REDIS_URL\"".to_owned(),
            Self::Memory => return None,
            Self::Cluster(cluster) => {
                return Some(format!("  redis-cli -p {} cluster nodes", cluster.nodes[0].port()));
            }
        };
        Some(format!("  redis-cli -u {url} monitor | grep -v XRANGE\n  redis-cli -u {url} keys '*'"))
    }
}
