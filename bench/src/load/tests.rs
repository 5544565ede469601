//! Tests the load loop against real servers of one page.

use std::convert::Infallible;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;

#[tokio::test]
async fn all_requests_are_under_way_before_the_first_is_answered() {
    const COUNT: usize = 20;
    let target = serve(200, Arc::new(Barrier::new(COUNT))).await;
    let samples = Load::at_once(&target, COUNT).run().await;
    assert_eq!(samples.len(), COUNT);
    for sample in samples {
        assert_eq!((sample.status(), sample.cache()), ("200".into(), "HIT".into()));
        assert_eq!(sample.failure(), None);
    }
}

#[tokio::test]
async fn a_single_visit_has_the_whole_answer() {
    let visit = one(&serve(200, free_for_all()).await).await;
    assert_eq!((visit.sample.status().as_str(), &visit.body[..]), ("200", &b"whole"[..]));
    assert_eq!(visit.headers["x-cache"], "HIT");
}

#[tokio::test]
async fn failures_have_kinds() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = Load::at_once(&format!("http://{closed}/").parse().unwrap(), 3).run().await;
    assert_eq!(refused.len(), 3);
    assert!(refused.iter().all(|sample| sample.failure() == Some(Failure::Refused)), "{refused:?}");
    let unavailable = Load::at_once(&serve(503, free_for_all()).await, 2).run().await;
    assert!(unavailable.iter().all(|sample| sample.failure() == Some(Failure::Status(503))));
    let broken = Load::at_once(&hang_up().await, 2).run().await;
    assert!(broken.iter().all(|sample| sample.failure() == Some(Failure::Broken)), "{broken:?}");
}

#[tokio::test]
async fn a_closed_crowd_asks_again_on_its_connections_until_the_end() {
    let target = serve(200, free_for_all()).await;
    let pace = Pace::Closed { think: Duration::ZERO..=Duration::ZERO };
    let crowd = Crowd::of(target, 2, pace);
    let end = Duration::from_millis(100);
    let load = Load { crowds: vec![crowd], arrival: Arrival::Rate(1000.0), end: End::After(end) };
    let samples = load.run().await;
    assert!(samples.len() > 2, "{}", samples.len());
    assert!(samples.iter().all(|sample| sample.failure().is_none() && sample.due < end), "{samples:?}");
}

/// One user at an open pace. Its first answer arrives after the last request was due, so all other requests had to wait.
#[tokio::test]
async fn in_the_open_pace_time_counts_from_when_a_request_was_due() {
    const RATE: f64 = 100.0;
    let end = Duration::from_millis(300);
    let (target, held) = serve_held().await;
    let crowd = Crowd::of(target, 1, Pace::Open { rate: RATE });
    let load = Load { crowds: vec![crowd], arrival: Arrival::Together, end: End::After(end) };
    let mut running = load.start();
    let begin = running.begin;
    // Until then, the server answers nobody. The pace uses the real clock.
    let release = tokio::task::spawn_blocking(move || {
        while begin.elapsed() < end {
            std::thread::yield_now();
        }
        held.add_permits(1000);
    });
    let mut samples = Vec::new();
    while let Some(sample) = running.next().await {
        samples.push(sample);
    }
    release.await.unwrap();
    assert_eq!(samples.len(), 30);
    for sample in &samples {
        assert!(sample.due + sample.took >= end, "{sample:?}");
        assert!(sample.failure().is_none(), "{sample:?}");
    }
}

#[test]
fn the_kinds_of_users_come_evenly_mixed() {
    assert_eq!(mixed(&[5, 1]), [0, 0, 0, 1, 0, 0]);
    assert_eq!(mixed(&[1, 2]), [1, 0, 1]);
    assert_eq!(mixed(&[3]), [0, 0, 0]);
    assert!(mixed(&[]).is_empty());
    let all = mixed(&[83, 17]);
    assert_eq!(all.iter().filter(|kind| **kind == 1).count(), 17);
}

fn free_for_all() -> Arc<Barrier> {
    Arc::new(Barrier::new(1))
}

/// A page that is sent to all readers at once, when all have asked.
async fn serve(status: u16, readers: Arc<Barrier>) -> Target {
    serve_with(move || {
        let readers = Arc::clone(&readers);
        async move {
            readers.wait().await;
            status
        }
    })
    .await
}

/// A page that is sent to one reader for each permit.
async fn serve_held() -> (Target, Arc<tokio::sync::Semaphore>) {
    let held = Arc::new(tokio::sync::Semaphore::new(0));
    let permits = Arc::clone(&held);
    let target = serve_with(move || {
        let permits = Arc::clone(&permits);
        async move {
            permits.acquire().await.unwrap().forget();
            200
        }
    })
    .await;
    (target, held)
}

async fn serve_with<F, A>(answer: F) -> Target
where
    F: Fn() -> A + Clone + Send + 'static,
    A: Future<Output = u16> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            let service = service_fn(move |_: Request<Incoming>| {
                let status = answer();
                async move {
                    let response = Response::builder().status(status.await).header("X-Cache", "HIT");
                    Ok::<_, Infallible>(response.body(Full::<Bytes>::from("whole")).unwrap())
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    target
}

/// A server that closes each connection without an answer.
async fn hang_up() -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    target
}
