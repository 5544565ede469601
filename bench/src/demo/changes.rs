//! The page that follows the database: a price changes, and the next request gets the new price.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::step::Step;
use super::walk::Walk;
use crate::laboratory::LabError;
use crate::load::{self, Visit};
use crate::site::{CACHED, First};

impl Walk<'_> {
    /// A change that is rolled back leaves the page as it is. A change that commits purges the page, and the new page then
    /// stays.
    pub(super) async fn changes(&mut self) -> Result<(), LabError> {
        let first = First::of(&load::one(&self.target(&CACHED)?).await.body);
        let id = first.map_or(0, |first| first.id);
        let database = &self.laboratory.database;
        let change = format!("UPDATE housing_property SET price = price + 1 WHERE id = {id}");
        let price = || database.psql(&format!("SELECT price FROM housing_property WHERE id = {id}"));

        let old = price()?;
        database.psql(&format!("BEGIN;\n{change};\nROLLBACK"))?;
        let visit = load::one(&self.target(&CACHED)?).await;
        let why = "The change was rolled back, so PostgreSQL tells nobody, and the stored page stays.";
        self.steps.push(asked("a price, rolled back", &visit, "HIT", &old).because(why));

        database.psql(&change)?;
        let new = price()?;
        let visit = self.after_the_commit().await?;
        let why = "The commit notified the proxy, which purged the page and asked the origin for a new one.";
        self.steps.push(asked("a price that changes", &visit, "MISS", &new).because(why));
        let visit = load::one(&self.target(&CACHED)?).await;
        let why = "The new page is stored, until its time is over or the next change.";
        self.steps.push(asked("the same page, again", &visit, "HIT", &new).because(why));
        Ok(())
    }

    /// The first answer with the new price. PostgreSQL notifies a moment after the commit.
    async fn after_the_commit(&self) -> Result<Visit, LabError> {
        const PATIENCE: Duration = Duration::from_secs(2);
        const PAUSE: Duration = Duration::from_millis(2);
        let began = Instant::now();
        loop {
            let visit = load::one(&self.target(&CACHED)?).await;
            if visit.sample.cache() != "HIT" || began.elapsed() > PATIENCE {
                return Ok(visit);
            }
            sleep(PAUSE).await;
        }
    }
}

/// A step whose page has this price.
fn asked(name: &'static str, visit: &Visit, cache: &str, price: &str) -> Step {
    let has_price = String::from_utf8_lossy(&visit.body).contains(&format!("\"{price}\""));
    let seen = format!("{price}{}", if has_price { "" } else { " is not" });
    Step::timed(name, std::slice::from_ref(&visit.sample))
        .expect(visit.sample.status(), "200")
        .expect(visit.sample.cache(), cache)
        .expect_that(has_price, format!("{seen} on it"), &format!("{price} on it"))
}
