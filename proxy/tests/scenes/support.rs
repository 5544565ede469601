//! A scripted origin that counts, a proxy on port 0, and a client that shows what came over the wire.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser as _;
use proxy::{AccessLog, Args, Config, InForce, MemoryStore, Proxy, RedisStore, Site, Store};
use server::{BoundListener, CertificateFiles, Certificates, ListenAddress, Workers};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::backend::Backend;
use crate::tunnel::{Authority, Pair};

/// No test waits longer than this for anything: it is a failure then, not a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the origin does with one request.
pub(crate) enum Script {
    /// Answers with these bytes and keeps the connection.
    Answer(Vec<u8>),
    /// Answers with these bytes and closes the connection.
    Close(Vec<u8>),
    /// Answers with what the test sends, piece by piece, until the test drops its end; then closes.
    Pieces(mpsc::Receiver<Vec<u8>>),
    /// Never answers.
    Silent,
}

/// A request as the origin saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

/// An origin that follows a script and remembers all it was asked.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Origin {
    /// An origin that answers each request as the script says; the script gets the number of the request, from 1.
    pub(crate) async fn new(script: impl FnMut(&Seen, usize) -> Script + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, script)
    }

    pub(crate) fn on(
        listener: TcpListener,
        script: impl FnMut(&Seen, usize) -> Script + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let (script, all) = (Arc::new(Mutex::new(script)), seen.clone());
        let connections = Arc::<AtomicUsize>::default();
        let accepted = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                let (script, all) = (script.clone(), all.clone());
                tokio::spawn(async move {
                    let next = |seen: Seen| {
                        let number = {
                            let mut all = all.lock().unwrap();
                            all.push(seen.clone());
                            all.len()
                        };
                        (script.lock().unwrap())(&seen, number)
                    };
                    converse(stream, next).await;
                });
            }
        });
        Self { address, seen, connections, task }
    }

    /// An origin whose pages are `page N`, N counting its requests, with these header lines.
    pub(crate) async fn pages(headers: &'static str) -> Self {
        Self::new(move |_, number| Script::Answer(page(headers, &format!("page {number}")))).await
    }

    /// An origin whose answers the test sends, piece by piece: each request's sender comes out of the channel.
    pub(crate) async fn piecewise() -> (Self, mpsc::UnboundedReceiver<mpsc::Sender<Vec<u8>>>) {
        Self::piecewise_unless(|_| None).await
    }

    /// The same, but for the requests that `script` answers.
    pub(crate) async fn piecewise_unless(
        script: impl Fn(&Seen) -> Option<Script> + Send + 'static,
    ) -> (Self, mpsc::UnboundedReceiver<mpsc::Sender<Vec<u8>>>) {
        let (starts, requests) = mpsc::unbounded_channel();
        let origin = Self::new(move |seen, _| {
            script(seen).unwrap_or_else(|| {
                let (sender, pieces) = mpsc::channel(1);
                starts.send(sender).unwrap();
                Script::Pieces(pieces)
            })
        })
        .await;
        (origin, requests)
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many connections were made to it.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Stops listening. Connections that are open stay so.
    pub(crate) async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// A 200 with its length; `headers` are whole lines.
pub(crate) fn page(headers: &str, body: &str) -> Vec<u8> {
    answer("200 OK", headers, body)
}

pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nServer: scripted\r\nDate: Tue, 24 Nov 2026 12:00:00 GMT\r\n\
         {headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn converse(mut stream: TcpStream, mut next: impl FnMut(Seen) -> Script) {
    let mut buffer = Vec::new();
    while let Some(seen) = read_request(&mut stream, &mut buffer).await {
        match next(seen) {
            Script::Answer(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Script::Close(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Script::Pieces(mut pieces) => {
                while let Some(piece) = pieces.recv().await {
                    if stream.write_all(&piece).await.is_err() {
                        return;
                    }
                }
                return;
            }
            Script::Silent => {
                // Until the other side gives up.
                let _ = stream.read(&mut [0]).await;
                return;
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let (line, headers) = read_head(stream, buffer).await?;
    let body = match find(&headers, "content-length") {
        Some(length) => take(stream, buffer, length.parse().unwrap()).await?,
        None if find(&headers, "transfer-encoding").is_some() => read_chunks(stream, buffer).await?.0,
        None => Vec::new(),
    };
    Some(Seen { line, headers, body })
}

async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, Vec<(String, String)>)> {
    loop {
        if let Some(end) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..end + 4).collect();
            let text: String = head.iter().copied().map(char::from).collect();
            let mut lines = text.trim_end().split("\r\n").map(str::to_owned);
            let line = lines.next()?;
            let headers = lines
                .filter_map(|line| line.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned())));
            return Some((line, headers.collect()));
        }
        more(stream, buffer).await?;
    }
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    (stream.read_buf(buffer).await.ok()? > 0).then_some(())
}

async fn take(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while buffer.len() < length {
        more(stream, buffer).await?;
    }
    Some(buffer.drain(..length).collect())
}

/// The content of chunks, and whether their end came.
async fn read_chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(Vec<u8>, bool)> {
    let mut body = Vec::new();
    loop {
        let Some(end) = buffer.windows(2).position(|part| part == b"\r\n") else {
            if more(stream, buffer).await.is_none() {
                return Some((body, false));
            }
            continue;
        };
        let size = String::from_utf8(buffer.drain(..end + 2).collect()).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let Some(chunk) = take(stream, buffer, size + 2).await else { return Some((body, false)) };
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return Some((body, true));
        }
    }
}

/// An answer as the client saw it.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body came whole, by its length or its last chunk.
    pub(crate) whole: bool,
}

impl Reply {
    pub(crate) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        find(&self.headers, name).unwrap_or("")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// X-Cache and Cache-Status together, without the name of the cache. A few of a page's 60 seconds may have passed.
    pub(crate) fn cache(&self) -> String {
        // By which way a hit came is for the scenes in near.rs alone.
        let status = self.header("cache-status").trim_end_matches("; detail=near");
        let status = status.strip_prefix("cachepage; ").unwrap_or(status).to_owned();
        let status = (50..60).fold(status, |status, ttl| status.replace(&format!("ttl={ttl}"), "ttl=60"));
        format!("{} {status}", self.header("x-cache"))
    }

    /// The header lines but those of this name.
    pub(crate) fn without<'a>(&'a self, names: &[&str]) -> Vec<(&'a str, &'a str)> {
        let unwanted = |name: &str| names.iter().any(|other| other.eq_ignore_ascii_case(name));
        self.headers
            .iter()
            .filter(|(name, _)| !unwanted(name))
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect()
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Over what the proxy of a scene runs. A client may see the near cache by `detail=near`, and by nothing else.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Setup {
    /// A store alone.
    Plain,
    /// Redis, with a near cache before it.
    Near,
}

impl Setup {
    /// These settings, and that of the near cache.
    pub(crate) fn settings(self, settings: &str) -> String {
        match self {
            Self::Plain => settings.to_owned(),
            Self::Near => format!("near = \"64MiB\"\n{settings}"),
        }
    }
}

/// A running proxy.
pub(crate) struct Scene {
    pub(crate) address: SocketAddr,
    /// The addresses of the `[[listen]]` of its settings.
    pub(crate) others: Vec<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
    /// Follows the databases of its settings.
    _following: AbortOnDropHandle<()>,
    /// Its own, if there is to be one.
    redis: Option<Backend>,
}

/// The rules that most scenes have.
pub(crate) const RULES: &str = "[[cache_page]]\npath = \"/p/*\"\ntimeout = 60\n";

impl Scene {
    /// A proxy with a store of its own, in memory if the set-up allows it, and the usual rule: `/p/*`, 60 seconds.
    pub(crate) async fn new(on: Setup, origin: &Origin) -> Self {
        Self::own(on, origin, RULES).await
    }

    /// The same with these settings.
    pub(crate) async fn own(on: Setup, origin: &Origin, settings: &str) -> Self {
        match on {
            Setup::Plain => Self::with(origin.address, MemoryStore::new(64 << 20), settings).await,
            Setup::Near => {
                let redis = Backend::start().unwrap();
                let scene = Self::over(on, &redis.url(), origin, settings).await;
                Self { redis: Some(redis), ..scene }
            }
        }
    }

    /// A proxy over this Redis.
    pub(crate) async fn over(on: Setup, redis: &str, origin: &Origin, settings: &str) -> Self {
        let settings = format!("store = \"{redis}\"\n{}", on.settings(settings));
        Self::with(origin.address, redis_store(redis), &settings).await
    }

    /// A proxy with any store and exactly these settings; its site is `localhost:8000`.
    pub(crate) async fn with<S: Store>(origin: SocketAddr, store: S, settings: &str) -> Self {
        Self::before(&["--origin", &format!("http://{origin}")], store, settings).await
    }

    /// A proxy with any store, these flags and these settings.
    pub(crate) async fn before<S: Store>(flags: &[&str], store: S, settings: &str) -> Self {
        let config = parse(flags, settings);
        let log = access_log(&config);
        Self::serve(config, store, log).await
    }

    /// A proxy with any store and these settings, parsed.
    pub(crate) async fn of<S: Store>(config: Config, store: S) -> Self {
        Self::serve(config, store, None).await
    }

    /// The same with an access log that is open already.
    pub(crate) async fn logging<S: Store>(
        origin: SocketAddr,
        store: S,
        settings: &str,
        log: Arc<AccessLog>,
    ) -> Self {
        let origin = format!("http://{origin}");
        Self::serve(parse(&["--origin", &origin], settings), store, Some(log)).await
    }

    /// With `CACHEPAGE_TEST_TLS=1` the proxy speaks TLS, and its address leads to it: so the scenes of `hostile` run over TLS, too.
    async fn serve<S: Store>(mut config: Config, store: S, log: Option<Arc<AccessLog>>) -> Self {
        let authority = std::env::var_os("CACHEPAGE_TEST_TLS").map(|_| Arc::new(Authority::new()));
        if let Some(authority) = &authority {
            let Pair { cert, key } = authority.issue(&["127.0.0.1"]);
            let loaded = Certificates::load(vec![CertificateFiles { cert, key }]).unwrap();
            config.listeners[0].certificates = Some(Arc::new(loaded));
        }
        let listeners: Vec<_> = config
            .listeners
            .iter()
            .map(|settings| BoundListener::bind(settings, "--listen").unwrap())
            .collect();
        let mut addresses = listeners.iter().map(|listener| match listener.address() {
            ListenAddress::Tcp(address) => *address,
            ListenAddress::Unix(_) => SocketAddr::from(([0; 4], 0)),
        });
        let (mut address, others) = (addresses.next().unwrap(), addresses.collect());
        if let Some(authority) = &authority {
            address = authority.leading_to(address).await;
        }
        let proxy = Proxy::new(&config, Site::localhost(8000), store).with_access_log(log);
        let proxy = Arc::new(InForce::new(proxy));
        let following = AbortOnDropHandle::new(tokio::spawn(proxy.clone().follow_databases()));
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        let served = async move {
            server::serve_on(&Workers::here(), listeners, proxy, config.clients, stopped).await;
        };
        let (stop, served) = (Some(stop), tokio::spawn(served));
        Self { address, others, stop, served, _following: following, redis: None }
    }

    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.get_with(target, "").await
    }

    /// GET with further header lines.
    pub(crate) async fn get_with(&self, target: &str, headers: &str) -> Reply {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: localhost:8000\r\n{headers}\r\n")).await
    }

    /// Sends raw bytes on a connection of their own and reads one answer.
    pub(crate) async fn send(&self, request: &str) -> Reply {
        exchange(self.address, request.as_bytes()).await
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Tells the proxy to stop and waits until it has.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        timeout(PATIENCE, self.served).await.expect("the proxy stops in time").unwrap();
        drop(self.redis);
    }
}

/// Redis has more time than by default, unless the settings have a line `deadlines.store`.
fn parse(flags: &[&str], settings: &str) -> Config {
    let flags = ["proxy", "--listen", "127.0.0.1:0"].iter().chain(flags);
    let args = Args::try_parse_from(flags).unwrap();
    let mut config = Config::parse(&args, Some(("scene.toml", settings))).unwrap();
    if !settings.contains("deadlines.store") {
        config.deadlines.store = STORE_DEADLINE;
    }
    config
}

/// Sends raw bytes to any server, on a connection of their own, and reads one answer.
pub(crate) async fn exchange(server: SocketAddr, request: &[u8]) -> Reply {
    let mut client = Client::connect(server).await;
    client.write(request).await;
    client.reply(!request.trim_ascii_start().starts_with(b"HEAD ")).await
}

/// Waits until the near cache, if there is one, has heard of a change in Redis that another client made. The near cache
/// promises to hear of it within 50 ms.
pub(crate) async fn heard(on: Setup) {
    match on {
        Setup::Plain => {}
        Setup::Near => tokio::time::sleep(Duration::from_millis(50)).await,
    }
}

/// Far above what a busy test machine needs, far below what a test waits.
const STORE_DEADLINE: Duration = Duration::from_secs(2);

pub(crate) fn redis_store(url: &str) -> RedisStore {
    RedisStore::new(url, STORE_DEADLINE, 1 << 20).unwrap()
}

fn access_log(config: &Config) -> Option<Arc<AccessLog>> {
    let settings = config.access_log.as_ref()?;
    Some(Arc::new(AccessLog::open(settings, Arc::default()).unwrap()))
}

/// A connection to the proxy.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(server: SocketAddr) -> Self {
        Self::over(TcpStream::connect(server).await.unwrap())
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Writes as long as the other side reads.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Ends its side, and can still read.
    pub(crate) async fn end(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Resets the connection: the client has really gone.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Reads one answer; `body` says whether it may have one.
    pub(crate) async fn reply(&mut self, body: bool) -> Reply {
        timeout(PATIENCE, self.read_reply(body)).await.expect("an answer in time")
    }

    async fn read_reply(&mut self, body: bool) -> Reply {
        let (line, headers) = read_head(&mut self.stream, &mut self.buffer).await.expect("an answer");
        let reply = Reply { line, headers, body: Vec::new(), whole: true };
        if body { self.read_body(reply).await } else { reply }
    }

    /// Reads the body of an answer whose head was read.
    pub(crate) async fn body_of(&mut self, head: Reply) -> Reply {
        timeout(PATIENCE, self.read_body(head)).await.expect("a body in time")
    }

    async fn read_body(&mut self, mut reply: Reply) -> Reply {
        if let Some(length) = find(&reply.headers, "content-length") {
            let length: usize = length.parse().unwrap();
            while self.buffer.len() < length && more(&mut self.stream, &mut self.buffer).await.is_some() {}
            reply.whole = self.buffer.len() >= length;
            reply.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
        } else if find(&reply.headers, "transfer-encoding").is_some() {
            (reply.body, reply.whole) = read_chunks(&mut self.stream, &mut self.buffer).await.unwrap();
        }
        reply
    }

    /// What has come of an answer, once its first bytes have; they are left to be read.
    pub(crate) async fn peek(&mut self) -> &[u8] {
        let first = async {
            while self.buffer.len() < 16 && more(&mut self.stream, &mut self.buffer).await.is_some() {}
        };
        timeout(PATIENCE, first).await.expect("an answer in time");
        &self.buffer
    }

    /// Reads the head of an answer and leaves the body on the wire.
    pub(crate) async fn head(&mut self) -> Reply {
        self.reply(false).await
    }

    /// Reads until this text has come.
    pub(crate) async fn until(&mut self, text: &str) {
        let read = async {
            while !self.buffer.windows(text.len()).any(|part| part == text.as_bytes()) {
                more(&mut self.stream, &mut self.buffer).await.expect("more to come");
            }
        };
        timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("{text:?} did not come"));
    }

    /// All that comes until the other side closes the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        assert!(self.is_closed().await, "closed in time");
        std::mem::take(&mut self.buffer)
    }

    /// Whether the other side closes the connection, whatever it still sends.
    pub(crate) async fn is_closed(&mut self) -> bool {
        timeout(PATIENCE, async { while more(&mut self.stream, &mut self.buffer).await.is_some() {} })
            .await
            .is_ok()
    }
}
