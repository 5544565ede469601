//! The article's claims, each with the figures of this run.

use super::article::{milliseconds, times};
use super::charts::first_singles;
use crate::run::{Run, Rung, Site, Way, thousands};
use crate::tables::Indexes;

/// A claim.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fact {
    /// The claim as a short figure.
    pub(super) figure: String,
    /// The claim as a sentence.
    pub(super) words: String,
}

/// The claims that the run has figures for.
pub(super) fn facts(run: &Run) -> Vec<Fact> {
    [faster(run), queries(run), users(run), index(run), django(run), follows(run)]
        .into_iter()
        .flatten()
        .collect()
}

/// The answer to the article's question, in a sentence.
pub(super) fn answer(run: &Run) -> Option<String> {
    let median = |way| median(run, Site::Cachepage, way);
    let (naive, hit) = (median(Way::Naive)?, median(Way::Hit)?);
    let queries = first_singles(run).find(|single| single.way == Way::Naive)?.queries?;
    let faster = format!(
        "The naive page takes {} as long as the cached one: {} and {queries} queries, against {} and none.",
        times(naive / hit),
        milliseconds(naive),
        milliseconds(hit)
    );
    Some([Some(faster), price(run)].into_iter().flatten().collect::<Vec<_>>().join(" "))
}

/// The price of the cache: pages that are out of date for a while.
fn price(run: &Run) -> Option<String> {
    let [kept, follows] = &run.freshness[..] else { return None };
    Some(format!(
        "In return, what it shows may be old: up to {} if the page is {}, and up to {} if it follows the database.",
        span(kept.greatest_age_ms()),
        kept.name,
        span(follows.greatest_age_ms())
    ))
}

/// The median of single requests, in milliseconds.
fn median(run: &Run, site: Site, way: Way) -> Option<f64> {
    let mut singles = first_singles(run).filter(|single| single.site == site);
    singles.find(|single| single.way == way).map(|single| single.series.summary.median_ms)
}

fn faster(run: &Run) -> Option<Fact> {
    let median = |way| median(run, Site::Cachepage, way);
    let (naive, hit) = (median(Way::Naive)?, median(Way::Hit)?);
    let figure = times(naive / hit);
    let words = format!(
        "A cache hit takes {}, the naive page {}: {figure} as long.",
        milliseconds(hit),
        milliseconds(naive)
    );
    Some(Fact { figure, words })
}

fn queries(run: &Run) -> Option<Fact> {
    let queries = |way| first_singles(run).find(|single| single.way == way)?.queries;
    let (naive, optimized, hit) = (queries(Way::Naive)?, queries(Way::Optimized)?, queries(Way::Hit)?);
    let words = format!(
        "The naive page makes {naive} queries, the optimized one {optimized}, a hit {hit}, counted by PostgreSQL."
    );
    Some(Fact { figure: format!("{naive} → {hit}"), words })
}

fn users(run: &Run) -> Option<Fact> {
    let rungs = |way| run.ladder.iter().filter(move |rung| rung.way == way);
    let ends = |way| Some((rungs(way).min_by_key(users_of)?, rungs(way).max_by_key(users_of)?));
    let ((alone, naive), (cached_alone, cached)) = (ends(Way::Naive)?, ends(Way::Hit)?);
    let median = |rung: &Rung| rung.series.summary.median_ms;
    let figure = times(median(naive) / median(cached));
    let words = format!(
        "With {} users the naive page takes {}, the cached page {}: {figure} as long. With {} it is {} and {}.",
        naive.users,
        milliseconds(median(naive)),
        milliseconds(median(cached)),
        alone.users,
        milliseconds(median(alone)),
        milliseconds(median(cached_alone)),
    );
    Some(Fact { figure, words })
}

fn users_of(rung: &&Rung) -> usize {
    rung.users
}

fn index(run: &Run) -> Option<Fact> {
    let of = |indexes| run.plans.iter().filter(move |plan| plan.tables.indexes == indexes);
    let slow = of(Indexes::None).max_by_key(|plan| plan.tables.properties)?;
    let fast = of(Indexes::Optimized).find(|plan| plan.tables.properties == slow.tables.properties)?;
    let figure = times(slow.execution_ms / fast.execution_ms);
    let words = format!(
        "The list query on {} rows takes {} by {} and {} by {}: {figure} as long.",
        thousands(slow.tables.properties),
        milliseconds(slow.execution_ms),
        slow.scan,
        milliseconds(fast.execution_ms),
        fast.scan
    );
    Some(Fact { figure, words })
}

fn django(run: &Run) -> Option<Fact> {
    let hit = median(run, Site::Cachepage, Way::Hit)?;
    let (naive, decorated) = (median(run, Site::Django, Way::Naive)?, median(run, Site::Django, Way::Hit)?);
    let figure = times(decorated / hit);
    let words = format!(
        "Real Django takes {} for the naive page, and {} with cache_page: {figure} as long as the proxy's hit ({}).",
        milliseconds(naive),
        milliseconds(decorated),
        milliseconds(hit)
    );
    Some(Fact { figure, words })
}

fn follows(run: &Run) -> Option<Fact> {
    let [kept, follows] = &run.freshness[..] else { return None };
    let words = format!(
        "While a price changes every {}, a page that is {} shows prices up to {} old, and one that follows the database up \
         to {}; hits are {:.1} % and {:.1} % of the requests.",
        span(kept.every_seconds * 1000.0),
        kept.name,
        span(kept.greatest_age_ms()),
        span(follows.greatest_age_ms()),
        kept.hit_ratio(),
        follows.hit_ratio()
    );
    let [kept, follows] = [kept, follows].map(|page| span(page.greatest_age_ms()));
    Some(Fact { figure: format!("{kept} → {follows}"), words })
}

/// A time that may be long. From one second on it is shown in seconds: `4.20 ms`, `59.3 s`, `60 s`.
pub(super) fn span(time: f64) -> String {
    if time < 1000.0 {
        return milliseconds(time);
    }
    let seconds = format!("{:.1}", time / 1000.0);
    format!("{} s", seconds.strip_suffix(".0").unwrap_or(&seconds))
}

/// The failures, by kind; `None` if there were none.
pub(super) fn failures(run: &Run) -> Option<String> {
    let kinds = run.failures();
    let total: usize = kinds.values().sum();
    let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{count} x {kind}")).collect();
    (total > 0)
        .then(|| format!("{total} requests failed, and have no part in the times: {}.", kinds.join(", ")))
}

/// How far the cached page was below the limit of the load loop.
pub(super) fn load_loop(run: &Run) -> Option<String> {
    let [own, cached, ..] = &run.limits[..] else { return None };
    let (own, cached) = (own.summary.per_second, cached.summary.per_second);
    Some(format!(
        "They get {} as many prepared answers as cached pages; at 1 × the users themselves would be the limit.",
        times(own / cached),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Limit, Summary};

    #[test]
    fn failures_are_reported_by_kind() {
        let mut run = Run::begin("test");
        assert_eq!(failures(&run), None);
        let kinds = [("status 503".to_owned(), 2), ("timeout".to_owned(), 1)];
        let summary = Summary { failures: kinds.into(), ..Summary::default() };
        run.limits.push(Limit { name: "limit".to_owned(), users: 1, seconds: 1.0, summary });
        let told = "3 requests failed, and have no part in the times: 2 x status 503, 1 x timeout.";
        assert_eq!(failures(&run).as_deref(), Some(told));
    }

    #[test]
    fn a_run_without_figures_has_nothing_to_say() {
        assert_eq!(facts(&Run::begin("test")), []);
        assert_eq!(answer(&Run::begin("test")), None);
    }
}
