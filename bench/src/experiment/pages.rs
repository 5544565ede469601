//! Measures pages on one set of tables: one by one, and 50 at once.

use std::time::Instant;

use super::{Experiment, Tables, plan};
use crate::laboratory::{LabError, RedisWitness};
use crate::load::{self, Load, Sample, Target, TargetError, Visit};
use crate::run::{Bombardment, Plan, RedisSight, Series, Single, Site, Way};
use crate::server_timing::ServerTiming;
use crate::site::{CACHED, LIST_QUERY, NAIVE, OPTIMIZED};

/// The steps of this file, for the progress.
pub(super) const STEPS: usize = 2;

/// How many requests the article sends at once.
const AT_ONCE: usize = 50;

/// How often PostgreSQL explains the query.
const EXPLANATIONS: usize = 5;

/// One way to get a page, and its measurements.
struct Measured {
    way: Way,
    queries: Option<usize>,
    samples: Vec<Sample>,
    /// The time in the database, in milliseconds.
    database: Vec<f64>,
}

impl Experiment {
    pub(super) async fn pages(&mut self, tables: Tables) -> Result<(), LabError> {
        self.progress.step(&format!("{tables}: single requests and the plan"));
        // The first requests are slower, and are not measured.
        for path in [NAIVE.path, OPTIMIZED.path] {
            load::one(&self.laboratory.target(path)?).await;
        }
        if self.run.redis.is_none() {
            self.run.redis = Some(self.look_at_redis().await?);
        }
        let singles =
            self.singles(Site::Cachepage, tables, &|path: &str| self.laboratory.target(path)).await?;
        self.run.singles.extend(singles);
        self.run.plans.push(self.plan(tables)?);
        self.progress.step(&format!("{tables}: {AT_ONCE} at once"));
        self.bombard(tables).await
    }

    /// Records what Redis sees of a miss and a hit.
    async fn look_at_redis(&self) -> Result<RedisSight, LabError> {
        let (Some(url), Some(key)) = (self.laboratory.pages.redis_url(), CACHED.key) else {
            return Err(LabError::Foreign("Redis"));
        };
        // Opened only now: MONITOR reports every command, and nobody would read its output under load.
        let mut redis = RedisWitness::open(&url)?;
        redis.forget(&[key])?;
        let cached = self.laboratory.target(CACHED.path)?;
        for _ in 0..2 {
            load::one(&cached).await;
        }
        let monitor = redis.commands(key)?.into_iter().map(|command| command.line).collect();
        Ok(RedisSight { key: key.to_owned(), ttl_seconds: redis.ttl(key)?, monitor })
    }

    /// Measures all ways of a site in each round, so that a busy moment of the machine affects all of them.
    pub(super) async fn singles(
        &self,
        site: Site,
        tables: Tables,
        target: &impl Fn(&str) -> Result<Target, TargetError>,
    ) -> Result<Vec<Single>, LabError> {
        let mut ways = [Way::Naive, Way::Optimized, Way::Miss, Way::Hit].map(Measured::new);
        self.laboratory.database.log_statements("all")?;
        for way in &mut ways {
            let page = target(&path(way.way, tables, usize::MAX))?;
            way.queries = self.queries(&page).await;
        }
        self.laboratory.database.log_statements("none")?;
        let started = Instant::now();
        for round in 0..self.scope.rounds {
            if round > 2 && started.elapsed() > self.scope.patience {
                break;
            }
            for way in &mut ways {
                way.take(load::one(&target(&path(way.way, tables, round))?).await);
            }
        }
        Ok(ways.map(|way| way.single(site, tables)).into())
    }

    /// The number of queries of one request, from PostgreSQL's log.
    async fn queries(&self, page: &Target) -> Option<usize> {
        let before = self.laboratory.database.statements();
        load::one(page).await;
        let after = self.laboratory.database.statements();
        Some(after? - before?)
    }

    /// The plan whose time is the median of several.
    fn plan(&self, tables: Tables) -> Result<Plan, LabError> {
        let mut plans = Vec::new();
        for _ in 0..EXPLANATIONS {
            let printed =
                self.laboratory.database.psql(&format!("EXPLAIN (ANALYZE, FORMAT JSON) {LIST_QUERY}"))?;
            plans.push(plan::parse(&printed, tables).ok_or(LabError::Plan(printed))?);
        }
        plans.sort_by(|one, other| one.execution_ms.total_cmp(&other.execution_ms));
        Ok(plans.swap_remove(EXPLANATIONS / 2))
    }

    async fn bombard(&mut self, tables: Tables) -> Result<(), LabError> {
        for (name, way) in [("naive", Way::Naive), ("cached, cold", Way::Miss), ("cached, warm", Way::Hit)] {
            let target = self.laboratory.target(&path(way, tables, usize::MAX - 1))?;
            let samples = Load::at_once(&target, AT_ONCE).run().await;
            let series = Series::of(name, samples.iter(), 0.0);
            self.run.bombardments.push(Bombardment { way, tables, series });
        }
        Ok(())
    }
}

/// The path of a page. Each round has its own cached page, so that its first request is a miss and its second a hit.
fn path(way: Way, tables: Tables, round: usize) -> String {
    match way {
        Way::Naive => NAIVE.path.to_owned(),
        Way::Optimized => OPTIMIZED.path.to_owned(),
        Way::Miss | Way::Hit => {
            let Tables { properties, indexes } = tables;
            format!("{}?of={properties}-{}-{round}", CACHED.path, indexes.name())
        }
    }
}

impl Measured {
    fn new(way: Way) -> Self {
        Self { way, queries: None, samples: Vec::new(), database: Vec::new() }
    }

    fn take(&mut self, visit: Visit) {
        // The Server-Timing of a stored page shows the queries that once made it.
        if self.way != Way::Hit {
            self.database.extend(ServerTiming::of(&visit.headers).map(|told| told.milliseconds));
        }
        self.samples.push(visit.sample);
    }

    fn single(mut self, site: Site, tables: Tables) -> Single {
        self.database.sort_by(f64::total_cmp);
        let database_ms = match self.way {
            Way::Hit if site == Site::Cachepage => Some(0.0),
            _ => self.database.get(self.database.len() / 2).copied(),
        };
        let series = Series::of(self.way.name(), self.samples.iter(), 0.0);
        Single { site, way: self.way, tables, queries: self.queries, database_ms, series }
    }
}
