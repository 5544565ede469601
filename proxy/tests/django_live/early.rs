//! gunicorn answers uploads that it does not read: its sync worker closes at once, its gthread worker keeps the connection.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proxy::MemoryStore;
use stack::{Launch, Program, free_port, new_folder};
use tokio::net::TcpStream;

use crate::site::ALL;
use crate::support::Scene;
use crate::venv::{APP, Django, djangos};

/// More than the buffers of both connections take.
const BODY: usize = 4 << 20;

/// Starts gunicorn with workers of this kind.
async fn gunicorn(django: &Django, worker: &str) -> (SocketAddr, Program) {
    let (port, folder) = (free_port().unwrap(), new_folder().unwrap());
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let launch = Launch::new("gunicorn", &django.python, &folder.join("gunicorn.log"))
        .args(["-m", "gunicorn", "--worker-class", worker, "--workers", "1", "--graceful-timeout", "1"])
        .args(["--no-control-socket", "--bind", &address.to_string(), "--chdir", APP, "early"])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .folder(&folder);
    let mut gunicorn = launch.start().unwrap();
    let started = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        let ended = gunicorn.try_wait().is_some() || started.elapsed() > Duration::from_secs(60);
        assert!(!ended, "{}", gunicorn.last_lines(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (address, gunicorn)
}

/// As many uploads as `CACHEPAGE_UPLOADS` says. Each client sends all before it reads.
#[tokio::test]
async fn of_many_early_answers_of_gunicorn_none_is_lost() {
    let count: usize = std::env::var("CACHEPAGE_UPLOADS").map_or(20, |count| count.parse().unwrap());
    let body = "x".repeat(BODY);
    let upload =
        format!("POST /upload HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {BODY}\r\n\r\n{body}");
    for django in djangos() {
        for worker in ["sync", "gthread"] {
            let (address, _gunicorn) = gunicorn(&django, worker).await;
            let scene = Scene::with(address, MemoryStore::new(1 << 20), ALL).await;
            for number in 0..count / 2 {
                let mut client = scene.connect().await;
                assert!(client.try_write(upload.as_bytes()).await, "{worker}: reset at upload {number}");
                let reply = client.reply(true).await;
                assert_eq!((reply.status(), reply.text()), (401, "early"), "{worker}, upload {number}");
            }
        }
    }
}
