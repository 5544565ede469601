//! A connection while hyper serves it: for requests that the front does not answer.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tracing::debug;

use super::connection::End;
use super::front::{Front, Passed};
use super::guard::Guarded;
use super::inlet::Inlet;
use super::rest::{Counted, Rest};
use super::scan::{HeadFault, is_followed_by_others};
use super::socket::Socket;
use super::target::HiddenBytes;
use super::tunnel::{HeldByTunnel, tunnel};
use crate::alarm::{Alarm, LazyTimer};
use crate::clients::KnownClients;
use crate::limits::Admitted;
use crate::peer::Peer;
use crate::refused::Refused;
use crate::stopping::Stopping;
use crate::{Clients, Handler};

/// How long hyper keeps a connection on which it is asked nothing. It holds some ten kilobytes for it.
const LINGER: Duration = Duration::from_secs(1);

/// Has hyper serve a connection that begins with these bytes, until the connection is at rest or has ended.
pub(crate) async fn serve<I: AsyncRead + AsyncWrite + Unpin + Send, H: Handler>(
    front: &mut Front<'_, I, H>,
    passed: Passed<H>,
    stopping: &mut Stopping,
    admitted: &mut Admitted,
) -> End {
    let (handler, mut known, peer) = (front.handler, front.clients.clone(), *front.peer);
    let clients = known.now().clone();
    let (rest, hidden) = (Rest::default(), HiddenBytes::default());
    let exchange = Exchange {
        handler,
        peer,
        decision: Mutex::default(),
        rest,
        hidden,
        asked: AtomicU64::new(0),
        upgrade: Mutex::default(),
    };
    let inlet = Inlet::new(front, passed, &exchange.decision, exchange.rest.clone());
    let (rest, hidden) = (exchange.rest.clone(), exchange.hidden.clone());
    let stream = Guarded::new(inlet, clients.limits, clients.deadlines, rest, hidden);
    let service = service_fn(|request| exchange.answer(request));
    let socket = Socket::new(stream, exchange.rest.clone());
    let mut connection = http(&clients).serve_connection(socket, service);
    let ended = match exchange.until_rest(&mut connection, stopping, &mut known, admitted).await {
        Pause::AtRest(since) => {
            // Leftover bytes belong to no request: everything that came has been answered.
            let is_clean = connection.into_parts().read_buf.is_empty();
            return if is_clean { End::Rest(since) } else { End::Closed };
        }
        Pause::Ended(ended) => ended,
    };
    let parts = connection.into_parts();
    let stream = parts.io.into_inner();
    let upgrade = exchange.upgrade.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let (Ok(()), Some((upgrade, _held))) = (&ended, upgrade) {
        let (ahead, inlet) = stream.into_parts();
        let early = [&parts.read_buf[..], &ahead, &inlet.into_bytes()].concat();
        let _counted = admitted.counts().begin_tunnel();
        tunnel(front.stream, &early, upgrade, clients.deadlines.tunnel).await;
        return End::Closed;
    }
    let fault = match &ended {
        // hyper sends no answer to a client that speaks HTTP/2, so the server does.
        Err(error) if error.is_parse() => Some(stream.refused().unwrap_or(HeadFault::NotHttp)),
        _ => stream.refused(),
    };
    if let Err(error) = &ended {
        debug!(%peer, %error, ?fault, "connection ended");
    }
    let refused = fault.map(Refused::from);
    let told = refused.map(|refused| (refused, handler.refused(refused, refused.text().len() as u64, peer)));
    stream.part(told).await;
    End::Closed
}

/// The requests that hyper reads on a connection, and the handler that answers them.
struct Exchange<'a, H: Handler> {
    handler: &'a Arc<H>,
    peer: Peer,
    /// The decision on the next request.
    decision: Mutex<Option<H::Decision>>,
    rest: Rest,
    hidden: HiddenBytes,
    /// How many requests hyper has read.
    asked: AtomicU64,
    /// The origin's side of a tunnel, if the answer to a request opens one, and what it holds.
    upgrade: Mutex<Option<(OnUpgrade, Option<HeldByTunnel>)>>,
}

/// Why hyper stops serving a connection.
enum Pause {
    /// The connection is at rest, since this time.
    AtRest(Instant),
    Ended(hyper::Result<()>),
}

impl<H: Handler> Exchange<'_, H> {
    async fn answer(
        &self,
        mut request: Request<Incoming>,
    ) -> Result<Response<Counted<H::Body, H::Record>>, Infallible> {
        self.hidden.restore(self.asked.fetch_add(1, Relaxed) + 1, &mut request);
        let decision = self.decision.lock().unwrap_or_else(PoisonError::into_inner).take();
        let asks_for_other =
            request.headers().get(UPGRADE).is_some_and(|value| is_followed_by_others(value.as_bytes()));
        let is_last = asks_for_other || request.body().size_hint().exact().is_none();
        let (mut response, record) = self.handler.clone().handle(request, self.peer, decision).await;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let held = response.extensions_mut().remove();
            let upgrade = hyper::upgrade::on(&mut response);
            *self.upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgrade, held));
        } else if is_last || self.rest.is_closing() {
            // The guard does not follow heads behind chunks, nor behind a request for another protocol.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|body| Counted::new(body, record, self.rest.clone())))
    }

    /// Runs until the connection has ended, or has been at rest for a while. After the order to stop, each answer is the last
    /// one, and a connection at rest is left at once.
    async fn until_rest<C>(
        &self,
        connection: &mut C,
        stopping: &mut Stopping,
        clients: &mut KnownClients,
        admitted: &mut Admitted,
    ) -> Pause
    where
        C: Future<Output = hyper::Result<()>> + Unpin,
    {
        // hyper's own idle timer would end the connection, since it does not see the requests that the front answers
        // meanwhile.
        let begun_with = clients.now().clone();
        let linger = LINGER.min(begun_with.deadlines.idle / 2);
        let (mut alarm, mut answered, mut since) = (Alarm::default(), 0, Instant::now());
        poll_fn(|cx| {
            if stopping.poll(cx).is_ready() {
                self.rest.close();
                if self.rest.is_now() {
                    return Poll::Ready(Pause::AtRest(since));
                }
            }
            // hyper and the guard keep the limits that they began with: with new ones, a connection at rest begins anew.
            if self.rest.is_now() && !Arc::ptr_eq(&begun_with, clients.now()) {
                return Poll::Ready(Pause::AtRest(since));
            }
            if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
                return Poll::Ready(Pause::Ended(ended));
            }
            admitted.set_active(!self.rest.is_now());
            if !self.rest.is_now() {
                return Poll::Pending;
            }
            if answered != self.rest.answered() {
                (answered, since) = (self.rest.answered(), Instant::now());
            }
            if self.rest.is_closing() {
                return Poll::Ready(Pause::AtRest(since));
            }
            alarm.poll(cx, since + linger).map(|()| Pause::AtRest(since))
        })
        .await
    }
}

/// hyper, as it reads what comes from clients.
pub(crate) fn http(clients: &Clients) -> http1::Builder {
    /// The smallest buffer for reading uploads and writing answers.
    const BUFFER: usize = 64 << 10;
    /// hyper keeps this many header lines on its stack. If there are more, it uses the heap.
    const HEADERS: usize = 100;
    let Clients { deadlines, limits } = clients;
    let mut http = http1::Builder::new();
    // Not `pipeline_flush`: it holds answers back while only a part of the next request has come, and loses them if its head
    // is bad.
    http.half_close(true);
    http.timer(LazyTimer::default()).title_case_headers(true).max_buf_size(BUFFER.max(limits.head));
    // This is the time between two requests: a head that has begun has a deadline of its own.
    http.header_read_timeout(deadlines.idle.max(deadlines.head));
    if limits.headers > HEADERS {
        http.max_headers(limits.headers);
    }
    http
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::time::sleep;

    use super::*;
    use crate::clients::CurrentClients;
    use crate::http1::testing::{PEER, Scene, Scripted, TestClient, get, post, settle};
    use crate::limits::Connections;
    use crate::stopping::Order;
    use crate::{ClientDeadlines, ClientLimits};

    #[tokio::test(start_paused = true)]
    async fn hyper_leaves_a_connection_that_has_been_at_rest_for_a_while() {
        const SECOND: Duration = Duration::from_secs(1);
        for (idle, linger) in [(60 * SECOND, LINGER), (SECOND, SECOND / 2)] {
            let deadlines = ClientDeadlines { idle, ..ClientDeadlines::default() };
            let clients = Clients { deadlines, ..Clients::default() };
            let (mut ours, theirs) = duplex(1000);
            let (handler, order) = (Scripted::new(), Order::default());
            let current = CurrentClients::from(clients);
            let mut clients = current.known();
            let mut admitted = Connections::new(current).admit(PEER.ip()).unwrap();
            let mut front = Front::new(&mut ours, &handler, &mut clients, &PEER);
            let passed = Passed { bytes: post("/wait", "abc").into(), decision: None };
            let mut stopping = Stopping::new(&order);
            let served = serve(&mut front, passed, &mut stopping, &mut admitted);
            let start = Instant::now();
            let asked = async {
                let mut client = TestClient(theirs);
                sleep(5 * SECOND).await;
                handler.open(1);
                assert_eq!(client.page().await, "/wait");
                sleep(linger / 2).await;
                client.send(&post("/post", "")).await;
                assert_eq!(client.page().await, "/post");
                client
            };
            let (end, client) = tokio::join!(served, asked);
            let answered = 5 * SECOND + linger / 2;
            assert!(matches!(end, End::Rest(since) if since == start + answered));
            assert_eq!(start.elapsed(), answered + linger);
            drop(client);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_changes_hands_as_often_as_need_be() {
        let scene = Scene::new(Clients::default());
        let mut client = scene.connect();
        for pause in [LINGER / 2, 2 * LINGER] {
            for _ in 0..2 {
                client.send(&get("/hyper")).await;
                assert_eq!(client.page().await, "/hyper");
                sleep(pause).await;
                client.send(&get("/now")).await;
                assert_eq!(client.page().await, "/now");
                // The decision on the request before does not reach this one.
                client.send(&post("/post", "abc")).await;
                assert_eq!(client.page().await, "/post");
                assert_eq!(
                    scene.handler.notes(),
                    [
                        "decide GET /hyper",
                        r#"handle GET /hyper, 1 lines, 0 bytes, Some("/hyper")"#,
                        "end /hyper, 6 bytes",
                        "decide GET /now",
                        "end /now, 4 bytes",
                        "handle POST /post, 2 lines, 3 bytes, None",
                        "end /post, 5 bytes",
                    ]
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_request_of_a_connection_has_the_limits_that_are_new() {
        for before in [get("/now"), get("/hyper"), post("/post", "abc")] {
            for after in [get("/now"), post("/post", "abc")] {
                let scene = Scene::new(Clients::default());
                let mut client = scene.connect();
                client.send(&before).await;
                client.page().await;
                let limits = ClientLimits { headers: 1, ..ClientLimits::default() };
                scene.clients.replace(Clients { limits, ..Clients::default() });
                client.send(&after.replace("Host: a", "A: b\r\nHost: a")).await;
                let rest = client.rest().await;
                assert!(rest.starts_with("HTTP/1.1 431 "), "{before:?} {after:?}: {rest}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn hyper_leaves_while_the_front_looks_something_up() {
        let scene = Scene::new(Clients::default());
        let mut client = scene.connect();
        for target in ["/later", "/undecided"] {
            client.send(&get("/hyper")).await;
            client.page().await;
            client.send(&get(target)).await;
            sleep(5 * LINGER).await;
            scene.handler.open(1);
            assert_eq!(client.page().await, target);
            assert_eq!(scene.handler.notes().iter().filter(|note| note.starts_with("decide")).count(), 2);
        }
    }

    #[tokio::test]
    async fn chunks_end_the_connection_after_their_request() {
        let scene = Scene::new(Clients::default());
        let mut client = scene.connect();
        let chunks = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        client.send(&format!("POST /post HTTP/1.1\r\nHost: a\r\n{chunks}{}", get("/now"))).await;
        let rest = client.rest().await;
        assert!(rest.contains("\r\nConnection: close\r\n") && rest.ends_with("\r\n\r\n/post"), "{rest}");
        assert_eq!(
            scene.handler.notes(),
            ["handle POST /post, 2 lines, 3 bytes, None", "end /post, 5 bytes"]
        );
    }

    #[tokio::test]
    async fn what_hyper_refuses_reaches_the_handler() {
        for text in
            ["GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\nA : b\r\n\r\n", "GET / HTTP/1.1\r\nA: \0\r\n\r\n"]
        {
            let scene = Scene::new(Clients::default());
            let mut client = scene.connect();
            client.send(&get("/now")).await;
            client.page().await;
            scene.handler.notes();
            client.send(text).await;
            assert!(client.rest().await.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text:?}");
            scene.closed().await;
            assert_eq!(scene.handler.notes(), ["refuse 400"]);
        }
    }

    #[tokio::test]
    async fn each_request_of_a_client_that_leaves_ends_once() {
        for target in ["/wait", "/hyper?3000"] {
            let scene = Scene::new(Clients::default());
            let mut client = scene.connect_over(1000);
            client.send(&get(target)).await;
            settle().await;
            drop(client);
            // The end of the client's side alone does not tell that it has gone.
            scene.handler.open(1);
            scene.closed().await;
            let notes = scene.handler.notes();
            assert_eq!(notes.iter().filter(|note| note.starts_with("end")).count(), 1, "{notes:?}");
            assert!(!notes.iter().any(|note| note.starts_with("refuse")), "{notes:?}");
        }
    }
}
