//! Real servers behind the proxy: gunicorn and uvicorn on Unix sockets, nginx with TLS, the development server of Vite.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use proxy::MemoryStore;
use serde_json::Value;
use stack::{Launch, Program, free_port, new_folder};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::python::{environment, say};
use crate::real_clients::{BROWSER_PATIENCE, Browser, CHROMIUM, program};
use crate::support::{Client, Scene};
use crate::tunnel::Authority;

const SERVERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers");

/// Caches what the servers say, and lets clients change to WebSocket.
const RULES: &str = "[[cache_page]]\npath = \"/p/*\"\n[[cache_page]]\npath = \"/room/*\"\nupgrade = true\n\
                     [[cache_page]]\npath = \"/\"\nupgrade = true\n";

/// A Python with the servers; `None`, and a word on standard error, where it cannot be made.
async fn python() -> Option<PathBuf> {
    static ONE_AT_A_TIME: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);
    let made = spawn_blocking(|| {
        let _one = ONE_AT_A_TIME.lock();
        environment(
            "servers",
            10..=99,
            &[concat!("-r", env!("CARGO_MANIFEST_DIR"), "/tests/servers/requirements.txt")],
        )
    });
    made.await.unwrap().inspect_err(|why| say(&format!("NOT TESTED with gunicorn and uvicorn: {why}"))).ok()
}

/// Starts a Python program that serves on a Unix socket, and a proxy before it.
async fn on_a_socket(python: &Path, settings: &str, args: impl Fn(&str) -> Vec<String>) -> (Scene, Program) {
    let folder = new_folder().unwrap();
    let socket = folder.join("app.sock").display().to_string();
    let launch = Launch::new("server", python, &folder.join("server.log"))
        .args(args(&socket))
        // Python writes no files next to the sources.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .folder(&folder);
    let mut program = launch.start().unwrap();
    let origin = format!("unix:{socket}");
    let settings = format!("{settings}{RULES}");
    let scene = Scene::before(&["--origin", &origin], MemoryStore::new(8 << 20), &settings).await;
    until_up(&scene, &mut program).await;
    (scene, program)
}

/// Waits until the server behind a proxy answers.
async fn until_up(scene: &Scene, program: &mut Program) {
    let up = async {
        while [502, 504].contains(&scene.get("/up").await.status()) {
            assert!(program.try_wait().is_none(), "{}", program.last_lines(30));
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(BROWSER_PATIENCE, up).await.expect("a server that is up");
}

/// Several clients that ask one request after the other, while something happens. All answers are 200.
async fn all_are_served(scene: &Scene, meanwhile: impl AsyncFnOnce()) {
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let address = scene.address;
        clients.spawn(async move {
            let mut client = Client::connect(address).await;
            for _ in 0..50 {
                client.write(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n").await;
                let reply = client.reply(true).await;
                assert_eq!(reply.status(), 200, "{reply:?}");
            }
        });
    }
    meanwhile().await;
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
}

async fn pages_are_stored_and_bodies_come_whole(scene: &Scene) {
    for x_cache in ["MISS", "HIT"] {
        let reply = scene.get("/p/a").await;
        assert_eq!((reply.header("x-cache"), reply.text()), (x_cache, "GET /p/a with 0 bytes"));
    }
    let body = "b".repeat(100_000);
    for framing in [
        format!("Content-Length: 100000\r\n\r\n{body}"),
        format!("Transfer-Encoding: chunked\r\n\r\n186a0\r\n{body}\r\n0\r\n\r\n"),
    ] {
        let reply = scene.send(&format!("POST /other HTTP/1.1\r\nHost: a\r\n{framing}")).await;
        assert_eq!(reply.text(), "POST /other with 100000 bytes");
    }
    let reply = scene.get("/pieces").await;
    assert!(reply.whole);
    assert_eq!(reply.body.len(), 300_000);
}

#[tokio::test]
async fn gunicorn_serves_on_a_unix_socket_and_is_reloaded_under_load() {
    let Some(python) = python().await else { return };
    for (class, threads) in [("sync", "1"), ("gthread", "4")] {
        let (scene, gunicorn) = on_a_socket(&python, "", |socket| {
            let flags = ["-m", "gunicorn", "--worker-class", class, "--threads", threads, "--chdir", SERVERS];
            let bind = format!("unix:{socket}");
            let rest = ["--no-control-socket", "--workers", "2", "--bind", &bind, "plain"];
            flags.iter().chain(&rest).map(|&text| text.to_owned()).collect()
        })
        .await;
        pages_are_stored_and_bodies_come_whole(&scene).await;
        assert_eq!(
            scene.get("/other").await.header("x-threads"),
            if threads == "1" { "False" } else { "True" }
        );
        all_are_served(&scene, async || {
            let mut reload = Command::new("kill");
            reload.args(["-HUP", &gunicorn.pid().to_string()]);
            assert!(spawn_blocking(move || reload.status()).await.unwrap().unwrap().success());
        })
        .await;
        scene.stop().await;
    }
}

/// The lines of an access log, once one of them has this text.
async fn logged(log: &Path, text: &str) -> Vec<Value> {
    let read = async {
        loop {
            let lines = fs::read_to_string(log).unwrap_or_default();
            let whole = lines.rsplit_once('\n').map_or("", |(whole, _)| whole);
            if whole.contains(text) {
                return whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(BROWSER_PATIENCE, read).await.unwrap_or_else(|_| {
        panic!("{text} is not in the log:\n{}", fs::read_to_string(log).unwrap_or_default())
    })
}

fn log_to(file: &Path) -> String {
    format!("[log]\naccess = {file:?}\nformat = \"json\"\n")
}

/// How many tunnels a log has.
fn tunnels(lines: &[Value]) -> usize {
    lines.iter().filter(|line| line["status"] == 101 && line["detail"] == "upgrade").count()
}

#[tokio::test]
async fn members_of_a_chat_on_uvicorn_hear_each_other_in_a_browser() {
    let (Some(python), Some(chromium)) = (python().await, program(&CHROMIUM)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let (scene, _uvicorn) = on_a_socket(&python, &log_to(&log), |socket| {
        let flags = ["-m", "uvicorn", "--app-dir", SERVERS, "--uds", socket, "chat:app"];
        flags.map(str::to_owned).to_vec()
    })
    .await;
    let browser = Browser::open(&chromium, &format!("http://{}/room/", scene.address));
    logged(&log, "Ada%20has%20heard%20Ben").await;
    drop(browser);
    // Tunnels are logged when they end.
    scene.stop().await;
    assert_eq!(tunnels(&logged(&log, "upgrade").await), 2);
}

#[tokio::test]
async fn nginx_with_tls_closes_connections_and_costs_no_request() {
    let Some(nginx) =
        program(&["nginx"]).or_else(|| Some("/usr/sbin/nginx".into()).filter(|path: &PathBuf| path.exists()))
    else {
        return;
    };
    let (authority, folder, port) = (Authority::new(), new_folder().unwrap(), free_port().unwrap());
    let pair = authority.issue(&["127.0.0.1"]);
    let conf = format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {{ worker_connections 256; }}\n\
         http {{\n access_log off;\n keepalive_requests 3;\n client_body_temp_path body;\n proxy_temp_path p;\n \
         fastcgi_temp_path f;\n uwsgi_temp_path u;\n scgi_temp_path s;\n server {{\n listen 127.0.0.1:{port} ssl;\n \
         ssl_certificate {:?};\n ssl_certificate_key {:?};\n default_type text/plain;\n \
         location / {{ return 200 \"$scheme $request_uri\"; }}\n }}\n}}\n",
        pair.cert, pair.key
    );
    fs::write(folder.join("nginx.conf"), conf).unwrap();
    let prefix = folder.display().to_string();
    let launch = Launch::new("nginx", &nginx, &folder.join("nginx.log"));
    let launch = launch.args(["-p", &prefix, "-c", "nginx.conf", "-e", "stderr"]).folder(&folder);
    let mut nginx = launch.start().unwrap();
    let origin = format!("[[origin]]\nurl = \"https://127.0.0.1:{port}\"\nca_file = {:?}\n", authority.ca());
    let scene = Scene::before(&[], MemoryStore::new(1 << 20), &format!("{origin}{RULES}")).await;
    until_up(&scene, &mut nginx).await;
    for x_cache in ["MISS", "HIT"] {
        let reply = scene.get("/p/a?b").await;
        assert_eq!((reply.header("x-cache"), reply.text()), (x_cache, "https /p/a?b"));
    }
    all_are_served(&scene, async || {}).await;
}

/// Installs Vite once for a build folder.
fn vite() -> Result<PathBuf, String> {
    program(&["npm"]).ok_or("npm is not on the PATH")?;
    let modules = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vite");
    fs::create_dir_all(&modules).unwrap();
    for file in ["package.json", "package-lock.json"] {
        fs::copy(Path::new(SERVERS).join("vite").join(file), modules.join(file)).unwrap();
    }
    let program = modules.join("node_modules/vite/bin/vite.js");
    if !program.exists() {
        let mut npm = Command::new("npm");
        let npm = npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(&modules).output();
        let output = npm.map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!("npm ci: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    Ok(program)
}

#[tokio::test]
async fn vite_replaces_a_module_in_a_browser_over_the_proxy() {
    let vite =
        spawn_blocking(vite).await.unwrap().inspect_err(|why| say(&format!("NOT TESTED with Vite: {why}")));
    let (Ok(vite), Some(node), Some(chromium)) = (vite, program(&["node"]), program(&CHROMIUM)) else {
        return;
    };
    let (folder, port) = (new_folder().unwrap(), free_port().unwrap());
    for file in ["index.html", "main.js", "text.js"] {
        fs::copy(Path::new(SERVERS).join("vite").join(file), folder.join(file)).unwrap();
    }
    let launch =
        Launch::new("vite", &node, &folder.join("vite.log")).args([vite.as_os_str(), folder.as_os_str()]);
    let port_text = port.to_string();
    let launch = launch.args(["--host", "127.0.0.1", "--strictPort", "--port", &port_text]).folder(&folder);
    let mut program = launch.start().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("access.log");
    let origin = format!("http://127.0.0.1:{port}");
    let settings = format!("{}{RULES}", log_to(&log));
    let scene = Scene::before(&["--origin", &origin], MemoryStore::new(8 << 20), &settings).await;
    until_up(&scene, &mut program).await;
    let browser = Browser::open(&chromium, &format!("http://{}/", scene.address));
    logged(&log, "loaded-first").await;
    // The page hears of changes once its socket is open.
    let mut changes = 0;
    let replaced = async {
        loop {
            changes += 1;
            fs::write(folder.join("text.js"), format!("export const text = \"{changes}\";\n")).unwrap();
            let heard = logged(&log, "replaced-");
            if timeout(Duration::from_secs(1), heard).await.is_ok() {
                return;
            }
        }
    };
    timeout(BROWSER_PATIENCE, replaced).await.expect("a module is replaced");
    drop(browser);
    scene.stop().await;
    let lines = logged(&log, "upgrade").await;
    assert!(tunnels(&lines) >= 1, "{lines:#?}");
    let loads =
        lines.iter().filter(|line| line["query"].as_str().is_some_and(|query| query.starts_with("loaded")));
    assert_eq!(loads.count(), 1, "the page was not loaded again");
}
