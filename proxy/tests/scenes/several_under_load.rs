//! Several origins while clients go on asking: one that is slow, is killed, hangs, comes back, or is ill costs no GET.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use proxy::MemoryStore;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::{Client, Origin, PATIENCE, Scene, Script, answer, page};

/// Clients at a time.
const CLIENTS: usize = 8;

/// What an origin does with its requests.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Up,
    /// It reads them, and answers when it goes on.
    Hung,
    /// It is being killed: connections end without an answer.
    Dying,
    Ill,
}

/// An origin that answers after a while, as its mode says.
struct Node {
    origin: Option<Origin>,
    address: std::net::SocketAddr,
    pause: Duration,
    mode: watch::Sender<Mode>,
}

impl Node {
    async fn start(pause: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, pause) = (watch::Sender::new(Mode::Up), Duration::from_millis(pause));
        let mut node = Self { origin: None, address, pause, mode };
        node.listen(listener);
        node
    }

    fn listen(&mut self, listener: TcpListener) {
        let (pause, mode) = (self.pause, self.mode.clone());
        self.origin = Some(Origin::on(listener, move |_, _| {
            let mut mode = mode.subscribe();
            let now = *mode.borrow_and_update();
            match now {
                Mode::Dying => Script::Close(Vec::new()),
                Mode::Ill => Script::Close(answer("503 Service Unavailable", "", "ill")),
                Mode::Up | Mode::Hung => {
                    let (sender, pieces) = mpsc::channel(1);
                    tokio::spawn(async move {
                        sleep(pause).await;
                        let _ = mode.wait_for(|mode| *mode != Mode::Hung).await;
                        let _ = sender.send(page("", "page")).await;
                    });
                    Script::Pieces(pieces)
                }
            }
        }));
    }

    fn count(&self) -> usize {
        self.origin.as_ref().map_or(0, Origin::count)
    }

    async fn kill(&mut self) {
        self.mode.send_replace(Mode::Dying);
        if let Some(origin) = self.origin.take() {
            origin.stop().await;
        }
    }

    async fn restart(&mut self) {
        self.mode.send_replace(Mode::Up);
        self.listen(TcpListener::bind(self.address).await.unwrap());
    }
}

/// Clients that ask one GET after the other.
struct Load {
    answers: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    fn on(scene: &Scene) -> Self {
        let mut load = Self {
            answers: Arc::default(),
            failed: Arc::default(),
            is_over: Arc::default(),
            clients: JoinSet::new(),
        };
        for _ in 0..CLIENTS {
            let (answers, failed, is_over) =
                (load.answers.clone(), load.failed.clone(), load.is_over.clone());
            let address = scene.address;
            load.clients.spawn(async move {
                let mut client = Client::connect(address).await;
                while !is_over.load(Relaxed) {
                    client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                    let reply = client.reply(true).await;
                    failed.fetch_add(usize::from(reply.text() != "page"), Relaxed);
                    answers.fetch_add(1, Relaxed);
                }
            });
        }
        load
    }

    /// Waits for so many further answers.
    async fn answers(&self, count: usize) {
        let end = self.answers.load(Relaxed) + count;
        self.until(|| self.answers.load(Relaxed) >= end).await;
    }

    async fn until(&self, is_so: impl Fn() -> bool) {
        let waited = async {
            while !is_so() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, waited).await.expect("the load goes on");
    }

    /// Ends the load, and gives the number of answers and of those that failed.
    async fn end(mut self) -> (usize, usize) {
        self.is_over.store(true, Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        (self.answers.load(Relaxed), self.failed.load(Relaxed))
    }
}

/// Whether `CACHEPAGE_LONG` asks for many more requests, on a machine with nothing else to do.
fn is_long() -> bool {
    std::env::var_os("CACHEPAGE_LONG").is_some()
}

/// How many answers each step takes.
fn step() -> usize {
    if is_long() { 5_000 } else { 200 }
}

async fn before(nodes: &[&Node], settings: &str) -> Scene {
    let tables = nodes.iter().map(|node| format!("[[origin]]\nurl = \"http://{}\"\n", node.address));
    let tables: String = tables.collect();
    Scene::before(&[], MemoryStore::new(1 << 20), &format!("{settings}\n{tables}")).await
}

#[tokio::test]
async fn an_origin_that_is_slow_killed_hung_or_restarted_costs_no_get() {
    let (one, other, slow) = tokio::join!(Node::start(1), Node::start(1), Node::start(20));
    let mut one = one;
    let scene = before(&[&one, &other, &slow], "[origins]\neject_for = \"100ms\"").await;
    let load = Load::on(&scene);
    for _ in 0..5 {
        load.answers(step()).await;
    }
    let counts = [one.count(), other.count(), slow.count()];
    println!("origins of 1, 1 and 20 ms: {counts:?} requests");
    // Where much else goes on, the quick ones are now and then as slow: the long form needs a release build, and a quiet machine.
    assert!(!is_long() || slow.count() * 20 < counts.iter().sum(), "{counts:?}");
    one.kill().await;
    load.answers(step()).await;
    one.restart().await;
    load.until(|| one.count() > 0).await;
    one.mode.send_replace(Mode::Hung);
    // Those that it has wait for it, and the others are answered.
    load.answers(step()).await;
    one.mode.send_replace(Mode::Up);
    let seen = one.count();
    load.until(|| one.count() > seen).await;
    let (answers, failed) = load.end().await;
    println!("{answers} answers, {failed} failed");
    assert_eq!(failed, 0);
}

#[tokio::test]
async fn an_origin_that_is_ill_gets_three_requests_and_then_a_trial_now_and_then() {
    let (ill, good) = tokio::join!(Node::start(0), Node::start(5));
    ill.mode.send_replace(Mode::Ill);
    let scene = before(&[&ill, &good], "[origins]\neject_for = \"60s\"").await;
    let load = Load::on(&scene);
    load.answers(2 * step()).await;
    let (answers, failed) = load.end().await;
    println!("{answers} answers, {failed} of them 503, {} requests to the one that is ill", ill.count());
    // Those that were under way when the third came do not count against it again.
    assert!((3..3 + CLIENTS).contains(&ill.count()), "{}", ill.count());
    assert_eq!(failed, ill.count(), "a 503 is relayed");
}
