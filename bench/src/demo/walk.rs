//! The article's requests, one step after the other.

use bytes::Bytes;

use super::step::{Step, Steps};
use crate::bombard::counts;
use crate::laboratory::{LabError, Laboratory, RedisWitness};
use crate::load::{self, Load, Sample, Target, Visit};
use crate::server_timing::ServerTiming;
use crate::site::{CACHED, CACHED_BOMBARDED, CACHED_SECOND, LIST_QUERY, NAIVE, OPTIMIZED, Page};

/// How many requests the article sends at once.
const AT_ONCE: usize = 50;

/// The expected outcome of a single request.
struct Expected {
    /// The expected X-Cache, if it matters.
    cache: Option<&'static str>,
    queries: usize,
    /// The commands that Redis should see.
    commands: &'static str,
}

const LIVE_NAIVE: Expected = Expected { cache: None, queries: 62, commands: "" };

const LIVE_OPTIMIZED: Expected = Expected { cache: None, queries: 2, commands: "" };

const MISS: Expected = Expected { cache: Some("MISS"), queries: 62, commands: "GET, SETEX 60" };

const HIT: Expected = Expected { cache: Some("HIT"), queries: 0, commands: "GET" };

/// The single requests, each with a sentence that explains its answer.
const SINGLES: [(&str, &Page, &Expected, &str); 6] = [
    (
        "naive page",
        &NAIVE,
        &LIVE_NAIVE,
        "The COUNT, the list, and three more queries for each of its 20 properties.",
    ),
    (
        "optimized page",
        &OPTIMIZED,
        &LIVE_OPTIMIZED,
        "The COUNT, and one query that joins the three other tables.",
    ),
    (
        "cached page, first time",
        &CACHED,
        &MISS,
        "Nothing is stored yet: the proxy asks the origin, and stores the page for 60 s.",
    ),
    (
        "cached page, again",
        &CACHED,
        &HIT,
        "The page comes from the store. Neither the origin nor PostgreSQL is asked.",
    ),
    (
        "its ?page=2, first time",
        &CACHED_SECOND,
        &MISS,
        "Another query is another page, and has a key of its own.",
    ),
    ("its ?page=2, again", &CACHED_SECOND, &HIT, "This page comes from the store now, too."),
];

/// Walks from the naive page to 50 hits at once, with a price that changes in between.
pub(super) async fn walk(laboratory: &Laboratory) -> Result<Steps, LabError> {
    let mut walk = Walk::begin(laboratory).await?;
    walk.one_after_the_other().await?;
    walk.keys()?;
    if laboratory.follows {
        walk.changes().await?;
    }
    laboratory.database.log_statements("none")?;
    walk.all_at_once().await?;
    Ok(Steps(walk.steps))
}

pub(super) struct Walk<'a> {
    pub(super) laboratory: &'a Laboratory,
    redis: Option<RedisWitness>,
    /// The body of the last answer.
    body: Bytes,
    pub(super) steps: Vec<Step>,
}

impl<'a> Walk<'a> {
    async fn begin(laboratory: &'a Laboratory) -> Result<Self, LabError> {
        let mut redis = laboratory.pages.redis_url().map(|url| RedisWitness::open(&url)).transpose()?;
        if let Some(redis) = &mut redis {
            let keys: Vec<_> =
                [CACHED, CACHED_SECOND, CACHED_BOMBARDED].iter().filter_map(|page| page.key).collect();
            redis.forget(&keys)?;
        }
        let walk = Self { laboratory, redis, body: Bytes::new(), steps: Vec::new() };
        // Without these, the first step would include the origin's first connections.
        for page in [&NAIVE, &OPTIMIZED] {
            load::one(&walk.target(page)?).await;
        }
        Ok(walk)
    }

    async fn one_after_the_other(&mut self) -> Result<(), LabError> {
        for (name, page, expected, why) in SINGLES {
            let step = self.request(name, page, expected).await?;
            let naive = self.steps.first().unwrap_or(&step).median();
            self.steps.push(step.compared_with(naive).because(why));
            if page.path == NAIVE.path && self.laboratory.database.is_private() {
                self.plan()?;
            }
        }
        Ok(())
    }

    /// How PostgreSQL runs the list query of the naive page.
    fn plan(&mut self) -> Result<(), LabError> {
        let plan = self.laboratory.database.psql(&format!("EXPLAIN (ANALYZE, COSTS OFF) {LIST_QUERY}"))?;
        let scan =
            ["Seq Scan", "Index Scan"].into_iter().find(|scan| plan.contains(scan)).unwrap_or("no scan");
        let why =
            "Without an index on created_at, PostgreSQL reads the whole table and sorts it, to find 20 rows.";
        let step = Step::new("the plan of its list query").expect(scan, "Seq Scan").because(why);
        self.steps.push(step.show(plan.lines().map(str::to_owned)));
        Ok(())
    }

    async fn request(
        &mut self,
        name: &'static str,
        page: &Page,
        expected: &Expected,
    ) -> Result<Step, LabError> {
        let database = &self.laboratory.database;
        let before = database.statements();
        let visit = load::one(&self.target(page)?).await;
        let mut step = answered(Step::timed(name, std::slice::from_ref(&visit.sample)), &visit, expected);
        if expected.cache == Some("HIT") {
            step = step.demand(visit.body == self.body, "the same bytes as the first time");
        }
        self.body = visit.body;
        if let Some((before, now)) = before.zip(database.statements()) {
            let wanted = format!("{} at PostgreSQL", expected.queries);
            step = step.expect(format!("{} at PostgreSQL", now - before), &wanted);
        }
        if let Some((redis, key)) = self.redis.as_mut().zip(page.key) {
            let commands = redis.commands(key)?;
            let short: Vec<_> = commands.iter().map(|command| command.short.as_str()).collect();
            let (seen, wanted) = (short.join(", "), expected.commands);
            step = step.expect(format!("{seen} at Redis"), &format!("{wanted} at Redis"));
            step = step.show(commands.into_iter().map(|command| command.line));
        }
        Ok(step)
    }

    /// The keys that the requests have left in Redis.
    fn keys(&mut self) -> Result<(), LabError> {
        let Some(redis) = &mut self.redis else { return Ok(()) };
        const KEYS: [(&str, Page, &str); 2] = [
            ("its key in Redis", CACHED, "The value is the HTTP response itself. Redis drops it after 60 s."),
            ("the key of ?page=2", CACHED_SECOND, "The key ends with the md5 of page=2."),
        ];
        for (name, page, why) in KEYS {
            let Some(key) = page.key else { continue };
            let ttl = redis.ttl(key)?;
            let step = Step::new(name).expect(redis.first_line(key)?, "HTTP/1.1 200 OK").expect_that(
                (1..=60).contains(&ttl),
                format!("TTL {ttl} s"),
                "TTL 1 to 60 s",
            );
            self.steps.push(step.because(why).show([key.to_owned()]));
        }
        Ok(())
    }

    async fn all_at_once(&mut self) -> Result<(), LabError> {
        let naive = self.bombard("50 at once, naive", &NAIVE, None).await?;
        let cold = self.bombard("50 at once, cached, cold", &CACHED_BOMBARDED, None).await?;
        let warm = self.bombard("50 at once, cached, warm", &CACHED_BOMBARDED, Some("50 x HIT")).await?;
        let slow = naive.median();
        let faster = slow.zip(warm.median()).is_some_and(|(slow, warm)| warm < slow);
        let steps = [
            naive.compared_with(slow).because("Each of the 50 requests makes its 62 queries."),
            cold.compared_with(slow).because(
                "One request goes to the origin. The others wait for its answer, and get the same page.",
            ),
            warm.compared_with(slow)
                .demand(faster, "a median below that of the naive page")
                .because("All 50 pages come from the store."),
        ];
        self.steps.extend(steps);
        Ok(())
    }

    /// With a cold cache some requests may hit; with a warm one all must.
    async fn bombard(&self, name: &'static str, page: &Page, hits: Option<&str>) -> Result<Step, LabError> {
        let samples = Load::at_once(&self.target(page)?, AT_ONCE).run().await;
        let step = Step::timed(name, &samples).expect(counts(&samples, Sample::status), "50 x 200");
        let cache = counts(&samples, Sample::cache);
        Ok(match hits {
            Some(hits) => step.expect(cache, hits),
            None => step.note(cache),
        })
    }

    pub(super) fn target(&self, page: &Page) -> Result<Target, LabError> {
        Ok(self.laboratory.url(page.path).parse()?)
    }
}

/// Checks the headers of the answer.
fn answered(step: Step, visit: &Visit, expected: &Expected) -> Step {
    let step = step.expect(visit.sample.status(), "200");
    let step = match expected.cache {
        Some(cache) => step.expect(visit.sample.cache(), cache),
        None => step,
    };
    // The Server-Timing of a stored page shows the queries that once made it, so for a hit PostgreSQL's own count is used.
    if expected.queries == 0 {
        return step;
    }
    let told = ServerTiming::of(&visit.headers);
    let queries = told.map_or("no Server-Timing".to_owned(), |told| format!("{} queries", told.queries));
    step.expect(queries, &format!("{} queries", expected.queries))
}
