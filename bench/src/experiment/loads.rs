//! Loads over time: more and more users, the article's mixed users, and as many requests as possible.

use std::env;
use std::time::Duration;

use hyper::HeaderMap;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::{Experiment, Tables};
use crate::compare::{Cookies, Head};
use crate::laboratory::{LabError, Server};
use crate::live;
use crate::load::{self, Arrival, Crowd, End, Load, Pace, Sample, Target};
use crate::mixed::Mixed;
use crate::run::{Limit, Rung, Series, Summary, Way};
use crate::site::{CACHED, NAIVE};

/// How many limits are measured.
pub(super) const LIMITS: usize = 4;

/// The ladder's users pause only briefly: with the article's pauses of seconds, only thousands of users would make a
/// difference.
const THINK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(300));

/// All users of a rung start within this share of its time, before the measurement.
const ARRIVAL: f64 = 0.25;

/// A usual number of connections for wrk. In the limits that ask for it, each user has a head or a page of its own.
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
        let crowd = Crowd { target, users, pace: Pace::Closed { think: THINK.0..=THINK.1 } };
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
        let prepared = format!("http://127.0.0.1:{}/", yardstick.port).parse()?;
        self.limit("one prepared answer (the load loop's own limit)", vec![prepared]).await;
        drop(yardstick);
        let cached = self.laboratory.target(CACHED.path)?;
        self.limit("the cached page", vec![cached.clone()]).await;
        let heads = browsers().map(|headers| cached.clone().with(headers)).collect();
        self.limit("the cached page, a browser's head for each user", heads).await;
        let pages = self.cached_pages().await?;
        self.limit("a cached page for each user", pages).await;
        Ok(())
    }

    /// A page for each user. All are in the cache then.
    async fn cached_pages(&self) -> Result<Vec<Target>, LabError> {
        let pages =
            (0..LIMIT_USERS).map(|user| self.laboratory.target(&format!("{}?of=user-{user}", CACHED.path)));
        let pages = pages.collect::<Result<Vec<_>, _>>()?;
        for page in &pages {
            load::one(page).await;
        }
        Ok(pages)
    }

    /// Measures the users, who share these targets evenly.
    async fn limit(&mut self, name: &str, targets: Vec<Target>) {
        self.progress.step(&format!("as many requests as can be: {name}"));
        let seconds = self.scope.limit_seconds;
        let pace = Pace::Closed { think: Duration::ZERO..=Duration::ZERO };
        let users = LIMIT_USERS / targets.len();
        let crowds = targets.into_iter().map(|target| Crowd { target, users, pace: pace.clone() });
        let load = Load {
            crowds: crowds.collect(),
            arrival: Arrival::Together,
            end: End::After(Duration::from_secs(seconds)),
        };
        let samples = watch(&load).await;
        let summary = Summary::of(samples.iter(), seconds as f64);
        let limit = Limit { name: name.to_owned(), users: LIMIT_USERS, seconds: seconds as f64, summary };
        self.run.limits.push(limit);
    }
}

/// The headers of a browser for each user, no two alike.
fn browsers() -> impl Iterator<Item = HeaderMap> {
    let mut random = StdRng::seed_from_u64(1);
    (0..LIMIT_USERS).map(move |number| Head::of_visitor(number, Cookies::Own, &mut random).headers())
}

/// Stopping the experiment drops this future, and so ends the load.
async fn watch(load: &Load) -> Vec<Sample> {
    live::watch(load, std::future::pending()).await
}
