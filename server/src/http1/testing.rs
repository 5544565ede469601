//! Shared by the tests of connections: a scripted handler whose behaviour the path of a request selects and that notes the
//! events, and clients that reach it over streams in memory.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::SystemTime;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::connection::{Start, converse};
use crate::clients::CurrentClients;
use crate::limits::Connections;
use crate::peer::Peer;
use crate::stopping::{Order, Stopping};
use crate::{Answer, Clients, Decided, Handler, Record, Refused, RequestHead};

pub(crate) const PEER: Peer = Peer::LOCAL;

/// Decides by the beginning of a path. `/now` is answered at once, `/later` after a lookup; the lookup of `/undecided` ends in
/// a decision; any other path is decided at once and handled. Lookups and `/wait` wait at a gate; `/early` is answered before
/// its body is read. Each answer is its target, filled up to the number of bytes in the query.
#[derive(Debug)]
pub(crate) struct Scripted {
    notes: Mutex<Vec<String>>,
    gate: Semaphore,
}

impl Scripted {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { notes: Mutex::default(), gate: Semaphore::new(0) })
    }

    /// Lets this many requests pass the gate, now or when they come.
    pub(crate) fn open(&self, count: usize) {
        self.gate.add_permits(count);
    }

    /// The events since the last look.
    pub(crate) fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap())
    }

    fn note(&self, note: String) {
        self.notes.lock().unwrap().push(note);
    }

    async fn pass_gate(&self) {
        self.gate.acquire().await.unwrap().forget();
    }

    fn record(self: &Arc<Self>, target: &str) -> Noted {
        Noted { handler: self.clone(), target: target.to_owned(), sent: 0 }
    }

    fn answer(self: &Arc<Self>, head: &RequestHead<'_>) -> Answer<String, Noted> {
        let page = page(head.target());
        Answer {
            head: format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", page.len()).into(),
            body: (head.method() == Method::GET).then_some(page),
            date: Some(SystemTime::UNIX_EPOCH),
            record: self.record(head.target()),
        }
    }
}

impl Handler for Scripted {
    type Body = Full<Bytes>;
    type Page = String;
    type Lookup = String;
    type Decision = String;
    type Record = Noted;

    fn answer(self: &Arc<Self>, head: &RequestHead<'_>, _: Peer, _: Instant) -> Decided<Self> {
        self.note(format!("decide {} {}", head.method(), head.target()));
        match first_segment(head.target()) {
            "now" => Decided::Answer(self.answer(head)),
            "later" | "undecided" => Decided::Lookup(head.target().to_owned()),
            _ => Decided::Decision(head.target().to_owned()),
        }
    }

    async fn look_up(
        self: &Arc<Self>,
        lookup: &String,
        head: &RequestHead<'_>,
        _: Peer,
    ) -> Result<Answer<String, Noted>, String> {
        self.note(format!("look up {lookup}"));
        self.pass_gate().await;
        if first_segment(lookup) == "later" { Ok(self.answer(head)) } else { Err(lookup.clone()) }
    }

    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        _: Peer,
        decision: Option<String>,
    ) -> (Response<Full<Bytes>>, Noted) {
        let (head, body) = request.into_parts();
        let target = head.uri.to_string();
        let record = self.record(&target);
        if first_segment(&target) == "early" {
            drop(body);
            return (Response::new(page(&target).into()), record);
        }
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let (method, lines) = (head.method, head.headers.len());
        self.note(format!("handle {method} {target}, {lines} lines, {} bytes, {decision:?}", body.len()));
        if first_segment(&target) == "wait" {
            self.pass_gate().await;
        }
        (Response::new(page(&target).into()), record)
    }

    fn refused(&self, refused: Refused, _: u64, _: Peer) -> String {
        self.note(format!("refuse {}", refused.status));
        "Via: scripted\r\n".to_owned()
    }
}

fn first_segment(target: &str) -> &str {
    target.split(['/', '?']).nth(1).unwrap_or_default()
}

/// The body of an answer.
pub(crate) fn page(target: &str) -> String {
    let size = target.split_once('?').and_then(|(_, size)| size.parse().ok()).unwrap_or(0);
    format!("{target:x<size$}")
}

/// Notes the end of a request, and how many bytes of its answer were sent.
#[derive(Debug)]
pub(crate) struct Noted {
    handler: Arc<Scripted>,
    target: String,
    sent: u64,
}

impl Record for Noted {
    fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.handler.note(format!("end {}, {} bytes", self.target, self.sent));
    }
}

/// Connections to a scripted handler.
pub(crate) struct Scene {
    pub(crate) handler: Arc<Scripted>,
    pub(crate) clients: CurrentClients,
    connections: Arc<Connections>,
    order: Option<Order>,
}

impl Scene {
    pub(crate) fn new(clients: Clients) -> Self {
        let clients = CurrentClients::from(clients);
        let (handler, connections) = (Scripted::new(), Connections::new(clients.clone()));
        Self { handler, clients, connections, order: Some(Order::default()) }
    }

    pub(crate) fn connect(&self) -> TestClient {
        self.connect_over(1 << 20)
    }

    /// A connection over a stream that buffers this many unread bytes.
    pub(crate) fn connect_over(&self, size: usize) -> TestClient {
        let (ours, theirs) = duplex(size);
        let start = Start {
            peer: PEER,
            handler: self.handler.clone(),
            clients: self.clients.known(),
            stopping: Stopping::new(self.order.as_ref().unwrap()),
            admitted: self.connections.admit(PEER.ip()).unwrap(),
        };
        tokio::spawn(converse(ours, Ok, start));
        TestClient(theirs)
    }

    /// Gives the order to stop.
    pub(crate) fn stop(&mut self) {
        self.order = None;
    }

    /// Completes when the server has closed all connections.
    pub(crate) async fn closed(&self) {
        self.connections.closed().await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.connections.open() == 0
    }
}

/// One end of a connection.
pub(crate) struct TestClient<S = DuplexStream>(pub(crate) S);

impl<S: AsyncRead + AsyncWrite + Unpin> TestClient<S> {
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// The head of the next answer.
    pub(crate) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// The next answer, head and body.
    pub(crate) async fn answer(&mut self) -> (String, String) {
        let head = self.head().await;
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// The body of the next answer, which is a good one.
    pub(crate) async fn page(&mut self) -> String {
        let (head, body) = self.answer().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        body
    }

    /// All bytes until the server closes the connection.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).await.unwrap();
        rest
    }
}

/// Notes the length of each write, and whether it had parts.
#[derive(Debug, Default)]
pub(crate) struct Writes(pub(crate) Vec<(usize, bool)>);

impl AsyncWrite for Writes {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.push((buf.len(), false));
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        self.0.push((length, true));
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A plain request.
pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A request that only hyper reads.
pub(crate) fn post(target: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Lets connections do everything that needs no waiting for time to pass.
pub(crate) async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}
