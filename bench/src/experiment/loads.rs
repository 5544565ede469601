//! Loads over time: more and more users, the article's mixed users, and as many requests as possible.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use hyper::HeaderMap;

use super::{Experiment, Tables};
use crate::compare::{Cookies, visits};
use crate::laboratory::{LabError, Server};
use crate::live;
use crate::load::{self, Arrival, Crowd, End, Load, Pace, Sample, Target};
use crate::mixed::Mixed;
use crate::run::{Limit, Rung, Series, Summary, Way, thousands};
use crate::site::{CACHED, NAIVE};

/// How many limits are measured.
pub(super) const LIMITS: usize = 5;

/// The ladder's users pause only briefly: with the article's pauses of seconds, only thousands of users would make a
/// difference.
const THINK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(300));

/// All users of a rung start within this share of its time, before the measurement.
const ARRIVAL: f64 = 0.25;

/// A usual number of connections for wrk.
const LIMIT_USERS: usize = 64;

impl Experiment {
    pub(super) async fn loads(&mut self, tables: Tables) -> Result<(), LabError> {
        for users in self.scope.rungs.clone() {
            self.progress.step(&format!("{users} users, naive and cached"));
            for (way, path) in [(Way::Naive, NAIVE.path), (Way::Hit, CACHED.path)] {
                let rung = self.rung(way, self.laboratory.target(path)?, users).await;
                self.run.ladder.push(rung);
            }
        }
        for mixed in self.scope.scenarios.clone() {
            self.mixed(mixed, tables).await?;
        }
        self.limits().await
    }

    async fn rung(&self, way: Way, target: Target, users: usize) -> Rung {
        let seconds = self.scope.rung_seconds as f64;
        let arrival = seconds * ARRIVAL;
        let crowd = Crowd::of(target, users, Pace::Closed { think: THINK.0..=THINK.1 });
        let load = Load {
            crowds: vec![crowd],
            arrival: Arrival::Rate(users as f64 / arrival),
            end: End::After(Duration::from_secs_f64(arrival + seconds)),
        };
        let samples = watch(&load).await;
        let settled = samples.iter().filter(|sample| sample.due.as_secs_f64() >= arrival);
        Rung { way, users, seconds, series: Series::of(way.name(), settled, seconds) }
    }

    async fn mixed(&mut self, mixed: Mixed, tables: Tables) -> Result<(), LabError> {
        self.progress.step(&format!("{} for {} s", mixed.name(), mixed.seconds));
        let load = mixed.load(|page| self.laboratory.target(page.path))?;
        let samples = watch(&load).await;
        self.run.scenarios.push(mixed.scenario(&samples, Some(tables)));
        Ok(())
    }

    /// Measures the load loop with a server of one prepared answer, and with the proxy. If it gets many more answers from
    /// the former, the load loop does not limit the figures of the proxy.
    async fn limits(&mut self) -> Result<(), LabError> {
        let own = env::current_exe()?;
        let yardstick =
            Server::start("yardstick", 0, &own, |launch, _| Ok(launch.args(["yardstick"]))).await?;
        let prepared: Target = format!("http://127.0.0.1:{}/", yardstick.port).parse()?;
        let cached = self.laboratory.target(CACHED.path)?;
        load::one(&cached).await;
        let heads = browsers();
        let by_browsers =
            |target: &Target| heads.iter().map(|head| target.clone().with(Arc::clone(head))).collect();
        self.limit("prepared answer, one head", Arc::new([prepared.clone()])).await;
        self.limit("cached page, one head", Arc::new([cached.clone()])).await;
        let count = thousands(heads.len());
        self.limit(&format!("prepared answer, {count} heads"), by_browsers(&prepared)).await;
        drop(yardstick);
        self.limit(&format!("cached page, {count} heads"), by_browsers(&cached)).await;
        let pages = self.cached_pages(&heads).await?;
        let name = format!("{} cached pages, {count} heads", thousands(self.scope.pages));
        self.limit(&name, pages).await;
        Ok(())
    }

    /// The visits of a site with many pages. Afterwards all pages are in the cache.
    async fn cached_pages(&self, heads: &[Arc<HeaderMap>]) -> Result<Arc<[Target]>, LabError> {
        let page = |number| self.laboratory.target(&format!("{}?of=page-{number}", CACHED.path));
        let pages = (0..self.scope.pages).map(page).collect::<Result<Vec<_>, _>>()?;
        for page in &pages {
            load::one(page).await;
        }
        let (_, asked) = visits(pages.len(), Cookies::Own);
        let visits = asked.into_iter().zip(heads.iter().cycle());
        Ok(visits.map(|(page, head)| pages[page].clone().with(Arc::clone(head))).collect())
    }

    /// Measures users who ask for these targets in turn.
    async fn limit(&mut self, name: &str, targets: Arc<[Target]>) {
        self.progress.step(&format!("as many requests as possible: {name}"));
        let seconds = self.scope.limit_seconds;
        let pace = Pace::Closed { think: Duration::ZERO..=Duration::ZERO };
        let load = Load {
            crowds: vec![Crowd { targets, users: LIMIT_USERS, pace }],
            arrival: Arrival::Together,
            end: End::After(Duration::from_secs(seconds)),
        };
        let samples = watch(&load).await;
        let summary = Summary::of(samples.iter(), seconds as f64);
        let limit = Limit { name: name.to_owned(), users: LIMIT_USERS, seconds: seconds as f64, summary };
        self.run.limits.push(limit);
    }
}

/// The headers of a site's visitors, no two alike.
fn browsers() -> Vec<Arc<HeaderMap>> {
    let (heads, _) = visits(1, Cookies::Own);
    heads.iter().map(|head| Arc::new(head.headers())).collect()
}

/// Runs a load. Stopping the experiment drops this future, which ends the load.
pub(super) async fn watch(load: &Load) -> Vec<Sample> {
    live::watch(load, std::future::pending()).await
}
