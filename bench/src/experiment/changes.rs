//! Measures how old a cached page is while prices change: a page that is kept for a minute, and one that follows the database.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::block_in_place;
use tokio::time::sleep_until;

use super::loads::watch;
use super::{Experiment, Tables, scope};
use crate::laboratory::{LabError, Laboratory, Setup, StoreKind};
use crate::load::{self, Arrival, Crowd, End, Load, Pace, Sample};
use crate::run::{Freshness, Summary};
use crate::site::{CACHED, First, NAIVE};

/// The requests per second for each of the two pages.
const RATE: f64 = 100.0;

/// The users who share these requests. They are enough even if the origin is slow for a while.
const READERS: usize = 8;

/// How many seconds the page is kept if it follows the database: a day.
const LONG: u32 = 86_400;

/// A page with servers of its own, so that the queries for it can be counted.
struct Contestant {
    name: String,
    laboratory: Laboratory,
    /// The property whose price changes, the first one on the page.
    id: u64,
}

/// The beginning of the measurement, on both clocks.
#[derive(Clone, Copy)]
struct Beginning {
    here: Instant,
    /// The beginning in seconds of PostgreSQL's clock, which is this machine's clock.
    there: f64,
}

impl Experiment {
    /// Measures both pages at the same time, so that a busy moment of the machine affects both.
    pub(super) async fn changes(&mut self, tables: Tables) -> Result<(), LabError> {
        let changes = self.scope.changes;
        self.progress.step("prices change: a page that is kept, and one that follows the database");
        let kept = format!("kept for {} s", changes.kept);
        let pages = [
            self.contestant(kept, Some(changes.kept), false, tables).await?,
            self.contestant("follows the database".to_owned(), Some(LONG), true, tables).await?,
        ];
        let before = pages.each_ref().map(Contestant::statements);
        let crowds = pages.iter().map(Contestant::readers).collect::<Result<_, _>>()?;
        let load = Load { crowds, arrival: Arrival::Together, end: End::After(changes.time()) };
        let beginning = Beginning::now();
        let (samples, committed) = tokio::join!(watch(&load), change(&pages, beginning, changes));
        for (((number, page), committed), before) in (0..).zip(&pages).zip(committed?).zip(before) {
            let statements = page.statements() - before - STATEMENTS * committed.len();
            let samples: Vec<_> = samples.iter().filter(|sample| sample.crowd == number).collect();
            self.run.freshness.push(freshness(page, &samples, &committed, statements, changes)?);
        }
        Ok(())
    }

    async fn contestant(
        &self,
        name: String,
        kept: Option<u32>,
        follows: bool,
        tables: Tables,
    ) -> Result<Contestant, LabError> {
        let Tables { properties, indexes } = tables;
        let store = Some(StoreKind::Redis);
        let setup = Setup { properties, indexes, kept, follows, store, ..Setup::default() };
        let laboratory = self.laboratory.another(&setup).await?;
        // The naive page is not cached.
        let visit = load::one(&laboratory.target(NAIVE.path)?).await;
        let id = First::of(&visit.body).ok_or(LabError::NoPrice)?.id;
        let contestant = Contestant { name, laboratory, id };
        contestant.set_price(0)?;
        Ok(contestant)
    }
}

impl Contestant {
    fn readers(&self) -> Result<Crowd, LabError> {
        let price = |body: &[u8]| First::of(body).map(|first| first.price as u64);
        let target = self.laboratory.target(CACHED.path)?.read_by(price);
        Ok(Crowd::of(target, READERS, Pace::Open { rate: RATE }))
    }

    fn statements(&self) -> usize {
        self.laboratory.database.statements().unwrap_or_default()
    }

    /// Returns when PostgreSQL had committed the change, in seconds of its clock.
    fn set_price(&self, price: usize) -> Result<f64, LabError> {
        let change = format!(
            "UPDATE housing_property SET price = {price} WHERE id = {};\n\
             SELECT extract(epoch FROM clock_timestamp())",
            self.id
        );
        let printed = block_in_place(|| self.laboratory.database.psql(&change))?;
        printed.parse().map_err(|_| LabError::NoPrice)
    }
}

/// The statements of `set_price`.
const STATEMENTS: usize = 2;

impl Beginning {
    #[allow(clippy::disallowed_methods, reason = "the edge: PostgreSQL's clock is compared with it")]
    fn now() -> Self {
        let there = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { here: Instant::now(), there: there.as_secs_f64() }
    }
}

/// Sets the price on both pages to 1, 2, 3 and so on. Returns for each page when its changes were committed, in seconds from
/// the beginning.
async fn change(
    pages: &[Contestant; 2],
    beginning: Beginning,
    changes: scope::Changes,
) -> Result<[Vec<f64>; 2], LabError> {
    let mut committed = [Vec::new(), Vec::new()];
    for price in 1u32.. {
        let due = changes.every * price;
        if due >= changes.time() {
            break;
        }
        sleep_until((beginning.here + due).into()).await;
        for (page, committed) in pages.iter().zip(&mut committed) {
            committed.push(page.set_price(price as usize)? - beginning.there);
        }
    }
    Ok(committed)
}

fn freshness(
    page: &Contestant,
    samples: &[&Sample],
    committed: &[f64],
    queries: usize,
    changes: scope::Changes,
) -> Result<Freshness, LabError> {
    let seconds = changes.time().as_secs_f64();
    let summary = Summary::of(samples.iter().copied(), seconds);
    let good = || samples.iter().filter(|sample| sample.failure().is_none());
    let ages = good().map(|sample| {
        let shown = sample.outcome.as_ref().ok()?.read?;
        Some(age(sample.due, shown, committed).as_micros() as u64)
    });
    let age_us = ages.collect::<Option<_>>().ok_or(LabError::NoPrice)?;
    Ok(Freshness {
        name: page.name.clone(),
        every_seconds: changes.every.as_secs_f64(),
        changes: committed.len(),
        seconds,
        queries,
        summary,
        asked_ms: good().map(|sample| sample.due.as_millis() as u64).collect(),
        age_us,
    })
}

/// The time since the first change that the page does not show; zero if it shows all changes that were committed when it was
/// asked for. The page shows the changes up to number `shown`. Change 1 is the first of `committed`.
fn age(asked: Duration, shown: u64, committed: &[f64]) -> Duration {
    let missed = usize::try_from(shown).ok().and_then(|shown| committed.get(shown));
    missed.map_or(Duration::ZERO, |missed| asked.saturating_sub(Duration::from_secs_f64(missed.max(0.0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_as_old_as_the_first_change_that_it_does_not_show() {
        let committed = [5.0, 10.0, 15.0];
        let age = |asked, shown| age(Duration::from_secs(asked), shown, &committed).as_secs();
        assert_eq!((age(4, 0), age(6, 1), age(20, 3)), (0, 0, 0));
        assert_eq!((age(6, 0), age(14, 0), age(14, 1)), (1, 9, 4));
        // The new page arrived before the commit was noted.
        assert_eq!(age(4, 1), 0);
    }
}
