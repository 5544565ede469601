//! A load: clients that request one page after the other, check each answer, and measure its time.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{PATIENCE, origin};

/// The number of clients of a load.
pub(crate) const CLIENTS: usize = 64;

/// The number of pages: enough for misses of different pages at the same time, but few enough for hits.
pub(crate) const PAGES: usize = 100;

/// How a client uses connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Habit {
    /// Keeps its connection. If it was closed while idle, and a request on it got no byte of an answer, the client
    /// sends the request once more on a new connection, as all HTTP clients do for GET (RFC 9112 §9.3.1).
    KeepAlive,
    /// Opens a connection for each request. Every error is a failure.
    Anew,
}

/// The result of a request.
#[derive(Clone, Debug)]
struct Sample {
    begun: Instant,
    took: Duration,
    /// Whether the answer was a hit, or why the request failed.
    outcome: Result<bool, String>,
}

/// State shared by the clients and the test.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    answers: AtomicUsize,
    hits: AtomicUsize,
    retried: AtomicUsize,
}

/// Running clients.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Vec<Sample>>,
}

/// The results of all clients.
pub(crate) struct Seen {
    samples: Vec<Sample>,
    /// The number of requests that were sent again because their connection was closed.
    pub(crate) retried: usize,
}

/// The figures of a period of a load.
pub(crate) struct Figures {
    pub(crate) answers: usize,
    pub(crate) hits: usize,
    seconds: f64,
    p50: Duration,
    pub(crate) p99: Duration,
    longest: Duration,
}

impl Load {
    /// Starts clients, and assigns them to the servers in turn.
    pub(crate) fn start(servers: &[SocketAddr], clients: usize, habit: Habit) -> Self {
        let shared = Arc::<Shared>::default();
        let mut tasks = JoinSet::new();
        for index in 0..clients {
            let mut client = Client::new(servers[index % servers.len()], habit);
            let shared = shared.clone();
            tasks.spawn(async move { client.work(index, &shared).await });
        }
        Self { shared, clients: tasks }
    }

    /// Waits for this many further answers.
    pub(crate) async fn answers(&self, count: usize) {
        self.wait_for(&self.shared.answers, count).await;
    }

    /// Waits for this many further hits.
    pub(crate) async fn hits(&self, count: usize) {
        self.wait_for(&self.shared.hits, count).await;
    }

    async fn wait_for(&self, counter: &AtomicUsize, count: usize) {
        let wanted = counter.load(Ordering::Relaxed) + count;
        let wait = async {
            while counter.load(Ordering::Relaxed) < wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("enough answers or hits in time");
    }

    /// Stops the clients after their current requests.
    pub(crate) async fn stop(self) -> Seen {
        self.shared.stop.store(true, Ordering::Relaxed);
        let samples = self.clients.join_all().await.into_iter().flatten().collect();
        Seen { samples, retried: self.shared.retried.load(Ordering::Relaxed) }
    }
}

impl Seen {
    /// The number of failures by reason.
    pub(crate) fn failures(&self) -> BTreeMap<&str, usize> {
        let mut failures = BTreeMap::new();
        for fault in self.samples.iter().filter_map(|sample| sample.outcome.as_ref().err()) {
            *failures.entry(fault.as_str()).or_default() += 1;
        }
        failures
    }

    /// The figures of the requests that began within a period.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Figures {
        let within: Vec<_> =
            self.samples.iter().filter(|sample| (from..to).contains(&sample.begun)).collect();
        let mut took: Vec<_> = within.iter().map(|sample| sample.took).collect();
        took.sort_unstable();
        let at = |share: f64| {
            took.get((took.len() as f64 * share) as usize).or(took.last()).copied().unwrap_or_default()
        };
        Figures {
            answers: within.len(),
            hits: within.iter().filter(|sample| sample.outcome == Ok(true)).count(),
            seconds: (to - from).as_secs_f64(),
            p50: at(0.5),
            p99: at(0.99),
            longest: at(1.0),
        }
    }

    /// The figures of all requests.
    pub(crate) fn all(&self) -> Figures {
        let from = self.samples.iter().map(|sample| sample.begun).min().unwrap();
        let to = self.samples.iter().map(|sample| sample.begun).max().unwrap();
        self.between(from, to + Duration::from_nanos(1))
    }
}

impl Seen {
    /// Merges two results.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.samples.extend(other.samples);
        Self { retried: self.retried + other.retried, ..self }
    }
}

impl Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(
            f,
            "{:>7} requests {:>6.0}/s, {:>5.1} % hits, p50 {:>6.2} ms, p99 {:>6.2} ms, longest {:>6.1} ms",
            self.answers,
            self.answers as f64 / self.seconds,
            100.0 * self.hits as f64 / self.answers.max(1) as f64,
            milliseconds(self.p50),
            milliseconds(self.p99),
            milliseconds(self.longest)
        )
    }
}

/// One client.
pub(crate) struct Client {
    server: SocketAddr,
    habit: Habit,
    connection: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// The parts of an answer that a client checks.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) is_hit: bool,
    closes: bool,
}

/// Why there is no answer.
enum Lost {
    /// No byte of an answer came.
    Unanswered(String),
    Broken(String),
}

impl Client {
    pub(crate) fn new(server: SocketAddr, habit: Habit) -> Self {
        Self { server, habit, connection: None, buffer: Vec::new() }
    }

    async fn work(&mut self, index: usize, shared: &Shared) -> Vec<Sample> {
        let mut samples = Vec::new();
        let mut page = index;
        while !shared.stop.load(Ordering::Relaxed) {
            // Each client has its own order of pages.
            page = (page * 31 + index + 7) % PAGES;
            let begun = Instant::now();
            let outcome = self.check(&format!("/p/{page}"), shared).await;
            shared.answers.fetch_add(1, Ordering::Relaxed);
            shared.hits.fetch_add(usize::from(outcome == Ok(true)), Ordering::Relaxed);
            samples.push(Sample { begun, took: begun.elapsed(), outcome });
        }
        samples
    }

    async fn check(&mut self, path: &str, shared: &Shared) -> Result<bool, String> {
        let answer = match timeout(PATIENCE, self.ask(path, shared)).await {
            Ok(answer) => answer?,
            Err(_) => return Err("no answer in time".to_owned()),
        };
        match answer.status {
            200 if answer.body == origin::body(path) => Ok(answer.is_hit),
            200 => Err("a wrong body".to_owned()),
            status => Err(format!("status {status}")),
        }
    }

    async fn ask(&mut self, path: &str, shared: &Shared) -> Result<Answer, String> {
        let is_reused = self.connection.is_some();
        match self.get(path).await {
            Err(Lost::Unanswered(_)) if is_reused => {
                shared.retried.fetch_add(1, Ordering::Relaxed);
                self.get(path).await
            }
            outcome => outcome,
        }
        .map_err(|(Lost::Unanswered(fault) | Lost::Broken(fault))| fault)
    }

    /// Sends a request once.
    pub(crate) async fn fetch(&mut self, path: &str) -> Result<Answer, String> {
        let answer = timeout(PATIENCE, self.get(path)).await.map_err(|_| "no answer in time".to_owned())?;
        answer.map_err(|(Lost::Unanswered(fault) | Lost::Broken(fault))| fault)
    }

    async fn get(&mut self, path: &str) -> Result<Answer, Lost> {
        let unanswered = |error: std::io::Error| Lost::Unanswered(format!("unanswered: {}", error.kind()));
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => TcpStream::connect(self.server)
                .await
                .map_err(|error| Lost::Broken(format!("no connection: {}", error.kind())))?,
        };
        self.buffer.clear();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        connection.write_all(request.as_bytes()).await.map_err(unanswered)?;
        let answer = self.read(&mut connection).await?;
        if self.habit == Habit::KeepAlive && !answer.closes {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    async fn read(&mut self, connection: &mut TcpStream) -> Result<Answer, Lost> {
        loop {
            let before = self.buffer.len();
            let lost = |text: String| if before == 0 { Lost::Unanswered(text) } else { Lost::Broken(text) };
            match connection.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(lost("closed before the end of the answer".to_owned())),
                Err(error) => return Err(lost(format!("broken: {}", error.kind()))),
                Ok(_) => {}
            }
            if let Some(answer) = parse(&self.buffer).map_err(Lost::Broken)? {
                return Ok(answer);
            }
        }
    }
}

/// Parses an answer; `None` until it is complete.
fn parse(bytes: &[u8]) -> Result<Option<Answer>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let start = match head.parse(bytes) {
        Ok(httparse::Status::Complete(start)) => start,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("not HTTP: {error}")),
    };
    let header = |name: &str| {
        head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    };
    let length = header("content-length").ok_or("no length")?;
    let length: usize = std::str::from_utf8(length).unwrap().parse().map_err(|_| "a bad length")?;
    let body = bytes.get(start..start + length).map(<[u8]>::to_vec);
    Ok(body.map(|body| Answer {
        status: head.code.unwrap_or_default(),
        body,
        is_hit: header("x-cache") == Some(b"HIT"),
        closes: header("connection") == Some(b"close"),
    }))
}
