//! Where the proxy keeps pages: a private Redis, the user's, or its memory.

use bench::stack::{Program, Redis, StackError};
use tokio::task::spawn_blocking;

use super::error::DemoError;
use crate::args::{DemoArgs, StoreKind};

/// Where the proxy keeps pages.
#[derive(Debug)]
pub(super) enum Pages {
    /// A Redis of our own.
    Private(Redis),
    /// The user's Redis.
    Given(String),
    /// The proxy's memory.
    Memory,
}

impl Pages {
    pub(super) async fn find(args: &DemoArgs) -> Result<Self, DemoError> {
        if args.store == Some(StoreKind::Memory) {
            return Ok(Self::Memory);
        }
        if let Some(url) = &args.redis_url {
            println!("Redis: the one of REDIS_URL; only the article's keys are touched.");
            return Ok(Self::Given(url.clone()));
        }
        println!("Starting a private Redis.");
        match spawn_blocking(Redis::start).await? {
            Ok(redis) => Ok(Self::Private(redis)),
            Err(missing @ StackError::Missing { .. }) if args.store.is_none() => {
                println!("{missing}\nWithout Redis the proxy keeps pages in its memory (--store memory).");
                Ok(Self::Memory)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// As the proxy's `--store` takes it.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Private(redis) => redis.url(),
            Self::Given(url) => url.clone(),
            Self::Memory => "memory".to_owned(),
        }
    }

    /// The Redis to watch.
    pub(super) fn redis_url(&self) -> Option<String> {
        (!matches!(self, Self::Memory)).then(|| self.url())
    }

    pub(super) fn program(&mut self) -> Option<&mut Program> {
        match self {
            Self::Private(redis) => Some(redis.program()),
            Self::Given(_) | Self::Memory => None,
        }
    }

    /// The user's own URL may hold a password.
    pub(super) fn hint(&self) -> Option<String> {
        let url = match self {
            Self::Private(redis) => redis.url(),
            Self::Given(_) => "\"$REDIS_URL\"".to_owned(),
            Self::Memory => return None,
        };
        Some(format!("  redis-cli -u {url} monitor\n  redis-cli -u {url} keys '*'"))
    }
}
