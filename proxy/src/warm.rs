//! `proxy warm`: asks a running proxy for pages, so that it stores them.

mod sitemap;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::args::Warm;
use crate::visitor::{VisitedPage, Visitor, url};
use sitemap::Sitemap;

/// The most sitemaps that are read. A site may have very many, or they may name each other.
const SITEMAPS: usize = 1_000;

/// The outcomes of all pages.
#[derive(Debug, Default, Serialize)]
pub struct Warmed {
    /// Pages that the proxy has fetched and stored.
    pub stored: usize,
    /// Pages that the proxy had already.
    pub hits: usize,
    /// Pages that it does not store.
    pub passed: Vec<Unwarmed>,
    /// Pages that did not come.
    pub failed: Vec<Unwarmed>,
}

/// A page that is not warm.
#[derive(Debug, Serialize)]
pub struct Unwarmed {
    /// Its URL.
    pub url: String,
    /// Why.
    pub why: String,
}

/// The outcome of a page.
enum Warming {
    Stored,
    Hit,
    Passed(String),
    Failed(String),
}

impl Warmed {
    /// Asks the proxy at an address for the pages. `progress` gets the number of finished pages and of all pages.
    pub async fn of(
        asked: &Warm,
        listen: SocketAddr,
        progress: impl Fn(usize, usize),
    ) -> Result<Self, String> {
        let visitor = Visitor::of(server::reachable(listen));
        let mut warmed = Self::default();
        let urls = warmed.urls(&asked.urls, &visitor).await?;
        let mut turns = interval(Duration::from_secs(1) / asked.per_second);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tasks = JoinSet::new();
        let mut started = 0;
        for url in &urls {
            if tasks.len() == usize::from(asked.at_once) {
                warmed.next(&mut tasks).await;
                progress(started - tasks.len(), urls.len());
            }
            turns.tick().await;
            let (visitor, url) = (visitor.clone(), url.clone());
            tasks.spawn(async move { (outcome(&visitor, &url).await, url) });
            started += 1;
        }
        while !tasks.is_empty() {
            warmed.next(&mut tasks).await;
            progress(started - tasks.len(), urls.len());
        }
        Ok(warmed)
    }

    /// Whether every page came.
    pub fn is_whole(&self) -> bool {
        self.failed.is_empty()
    }

    /// The named pages, and the pages of the named sitemaps.
    async fn urls(&mut self, named: &[String], visitor: &Visitor) -> Result<BTreeSet<String>, String> {
        let mut pages = BTreeSet::new();
        let mut maps = Vec::new();
        for text in named {
            match Path::new(text) {
                file if file.is_file() => {
                    let text = std::fs::read_to_string(file).map_err(|error| format!("{text}: {error}"))?;
                    let map = Sitemap::of(&text).map_err(|error| format!("{}: {error}", file.display()))?;
                    pages.extend(map.pages);
                    maps.extend(map.sitemaps);
                }
                _ => match url(text)? {
                    map if map.path().ends_with(".xml") => maps.push(text.clone()),
                    _ => drop(pages.insert(text.clone())),
                },
            }
        }
        for _ in 0..SITEMAPS {
            let Some(map) = maps.pop() else { break };
            match sitemap(&map, visitor).await {
                Ok(found) => {
                    pages.extend(found.pages);
                    maps.extend(found.sitemaps);
                }
                Err(why) => self.failed.push(Unwarmed { url: map, why }),
            }
        }
        Ok(pages)
    }

    /// Waits for one of the pages that were asked for.
    async fn next(&mut self, tasks: &mut JoinSet<(Warming, String)>) {
        let Some(Ok((outcome, url))) = tasks.join_next().await else { return };
        match outcome {
            Warming::Stored => self.stored += 1,
            Warming::Hit => self.hits += 1,
            Warming::Passed(why) => self.passed.push(Unwarmed { url, why }),
            Warming::Failed(why) => self.failed.push(Unwarmed { url, why }),
        }
    }
}

async fn outcome(visitor: &Visitor, text: &str) -> Warming {
    match got(visitor, text).await {
        Ok(page) => of_answer(&page),
        Err(why) => Warming::Failed(why),
    }
}

async fn got(visitor: &Visitor, text: &str) -> Result<VisitedPage, String> {
    visitor.get(&url(text)?).await
}

/// The outcome of an answer, by the headers of the proxy.
fn of_answer(page: &VisitedPage) -> Warming {
    let status = page.cache_status();
    if page.is_hit() {
        Warming::Hit
    } else if page.is_stored() {
        Warming::Stored
    } else if page.status.is_success() && !status.is_empty() {
        Warming::Passed(status.to_owned())
    } else {
        Warming::Failed(page.status.to_string())
    }
}

async fn sitemap(text: &str, visitor: &Visitor) -> Result<Sitemap, String> {
    let page = got(visitor, text).await?;
    if !page.status.is_success() {
        return Err(page.status.to_string());
    }
    Sitemap::of(&String::from_utf8_lossy(&page.body))
}

impl fmt::Display for Warmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Unwarmed { url, why } in &self.passed {
            writeln!(f, "not stored: {url}: {why}")?;
        }
        for Unwarmed { url, why } in &self.failed {
            writeln!(f, "failed: {url}: {why}")?;
        }
        let Self { stored, hits, passed, failed } = self;
        write!(
            f,
            "{stored} stored, {hits} stored before, {} not stored, {} failed",
            passed.len(),
            failed.len()
        )
    }
}
