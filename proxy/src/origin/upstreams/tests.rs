use tokio::time::advance;

use super::*;
use crate::origin::OriginUrl;

const MILLISECOND: Duration = Duration::from_millis(1);

/// So many origins for all requests. No request is sent to them.
fn upstreams(count: usize) -> Upstreams {
    let origin = |_| Origin::for_all(OriginUrl::Http("127.0.0.1:1".parse().unwrap()), None);
    let ejection = Ejection { after: 3, time: Duration::from_secs(5) };
    let all = (0..count).map(origin).collect();
    let second = Duration::from_secs(1);
    let deadlines =
        OriginDeadlines { connect: second, head: second, idle: second, queue: second, total: None };
    let limits = OriginLimits { head: 1 << 15, requests: 100, queue: 100 };
    Upstreams::new(&Origins { all, ejection, retry_budget: 0.2, probe: None }, deadlines, limits)
}

#[tokio::test(start_paused = true)]
async fn of_origins_of_1_1_and_20_milliseconds_the_slow_one_gets_less_than_a_twentieth() {
    let upstreams = upstreams(3);
    let group = &upstreams.groups[0];
    let mut counts = [0; 3];
    for _ in 0..20_000 {
        let place = group.pick(&[], true);
        let took = [1, 1, 20][place] * MILLISECOND;
        let mut asked = AskedOrigin::begin(&group.members[place].health, Instant::now());
        advance(took).await;
        asked.is_answered = true;
        asked.health.succeeded(took, Instant::now());
        counts[place] += 1;
    }
    assert!((1..1000).contains(&counts[2]), "it is asked now and then: {counts:?}");
    assert!(counts[..2].iter().all(|count| *count > 5_000), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_hangs_gets_few_requests() {
    let upstreams = upstreams(3);
    let group = &upstreams.groups[0];
    let health = |place: usize| &group.members[place].health;
    for place in 0..3 {
        health(place).succeeded([1, 1, 20][place] * MILLISECOND, Instant::now());
    }
    let mut hanging = Vec::new();
    for _ in 0..1000 {
        let place = group.pick(&[], true);
        let asked = AskedOrigin::begin(health(place), Instant::now());
        advance(MILLISECOND).await;
        match place {
            0 => hanging.push(asked),
            _ => health(place).succeeded([1, 1, 20][place] * MILLISECOND, Instant::now()),
        }
    }
    assert!(hanging.len() < 30, "{} of 1000 hang", hanging.len());
}

#[tokio::test]
async fn at_most_half_of_the_origins_are_left_out() {
    for (count, most) in [(2, 1), (3, 1), (4, 2), (5, 2)] {
        let upstreams = upstreams(count);
        let group = &upstreams.groups[0];
        for _ in 0..10 {
            group.members.iter().for_each(|member| upstreams.note_failure(group, member, Instant::now()));
        }
        let out = upstreams.states().iter().filter(|state| state.is_ejected).count();
        assert_eq!(out, most, "of {count}");
    }
}

#[test]
fn retries_are_a_part_of_the_requests_and_some_at_once() {
    let budget = Budget::new(0.2);
    assert_eq!((0..2000).filter(|_| budget.withdraw()).count(), 1000);
    for _ in 0..10 {
        budget.deposit();
    }
    assert_eq!((0..1000).filter(|_| budget.withdraw()).count(), 2);
    let none = Budget::new(0.0);
    none.deposit();
    assert!(!none.withdraw());
}
