//! Real clients over the proxy: curl that resumes a download, a browser that reloads a page and seeks in a video.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proxy::MemoryStore;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::access_log::lines;
use crate::support::{Origin, RULES, Scene, Script};

/// A browser needs some seconds to start, and longer on a busy machine.
pub(crate) const BROWSER_PATIENCE: Duration = Duration::from_secs(90);

/// The names of the browser.
pub(crate) const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Seconds of sound: 12 MB, more than a browser loads ahead.
const SECONDS: usize = 136;

/// The page reloads itself once, then seeks to the end of the film, and says when it is there.
const PAGE: &str = r#"<!doctype html><link rel="icon" href="data:,"><video preload="metadata" muted></video><script>
const done = (text) => fetch("/done?" + encodeURIComponent(text));
const video = document.querySelector("video");
if (!sessionStorage.again) {
  sessionStorage.again = "yes";
  location.reload();
} else {
  video.onloadedmetadata = () => { video.currentTime = video.duration - 5; };
  video.onseeked = () => done(Math.round(video.currentTime) + " of " + Math.round(video.duration));
  video.onerror = () => done(video.error.message);
  video.src = "/p/film.wav";
}
</script>"#;

fn answer(kind: &str, body: &[u8]) -> Script {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nETag: \"{}\"\r\nContent-Length: {0}\r\n\r\n",
        body.len()
    );
    Script::Answer([head.as_bytes(), body].concat())
}

/// Silence: 16 bits, mono, 44,100 Hz.
fn film() -> Vec<u8> {
    const RATE: u32 = 44_100;
    let length = u32::try_from(SECONDS).unwrap() * RATE * 2;
    let mut wav = b"RIFF".to_vec();
    wav.extend((length + 36).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend([RATE.to_le_bytes(), (RATE * 2).to_le_bytes()].concat());
    wav.extend(b"\x02\0\x10\0data");
    wav.extend(length.to_le_bytes());
    wav.resize(wav.len() + length as usize, 0);
    wav
}

/// A browser without a window, which is ended when it is dropped.
pub(crate) struct Browser {
    process: Child,
    _profile: TempDir,
}

impl Browser {
    pub(crate) fn open(program: &Path, url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let process = Command::new(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            // With it, the browser does not end when the page is loaded.
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Unlike SIGKILL, SIGTERM ends all of its processes.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) fn program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path)
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
        .find(|program| program.is_file());
    if found.is_none() {
        eprintln!("Skipped: there is no {}.", names[0]);
    }
    found
}

#[tokio::test]
async fn a_browser_reloads_a_page_with_a_304_and_seeks_with_a_206() {
    let Some(chromium) = program(&CHROMIUM) else { return };
    let (done, mut said) = mpsc::unbounded_channel();
    let film = film();
    let origin = Origin::new(move |seen, _| match seen.line.split(' ').nth(1).unwrap() {
        "/p/page" => answer("text/html", PAGE.as_bytes()),
        "/p/film.wav" => answer("audio/wav", &film),
        other => {
            let _ = done.send(other.to_owned());
            answer("text/plain", b"")
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let settings = format!(
        "max_entry = \"16MiB\"\nmemory_limit = \"128MiB\"\n{RULES}[log]\naccess = {log:?}\nformat = \"json\"\n"
    );
    let scene = Scene::with(origin.address, MemoryStore::new(128 << 20), &settings).await;
    // So that nothing depends on the browser's patience with a miss.
    scene.get("/p/film.wav").await;
    let browser = Browser::open(&chromium, &format!("http://{}/p/page", scene.address));
    let said = timeout(BROWSER_PATIENCE, said.recv()).await.expect("the browser is done in time").unwrap();
    drop(browser);
    assert_eq!(said, format!("/done?{}%20of%20{SECONDS}", SECONDS - 5));
    scene.stop().await;
    let lines: Vec<Value> =
        lines(&log, 5).await.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let statuses = |path: &str| -> Vec<_> {
        let of_path = lines.iter().filter(|line| line["path"] == path);
        of_path.map(|line| line["status"].as_u64().unwrap()).collect()
    };
    assert_eq!(statuses("/p/page"), [200, 304]);
    let parts = statuses("/p/film.wav").iter().filter(|status| **status == 206).count();
    assert!(parts >= 2, "the start and the place that was sought: {lines:#?}");
}

#[tokio::test]
async fn curl_resumes_a_download() {
    let Some(curl) = program(&["curl"]) else { return };
    let body: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let origin = {
        let body = body.clone();
        Origin::new(move |_, _| answer("application/octet-stream", &body)).await
    };
    let scene = Scene::with(origin.address, MemoryStore::new(8 << 20), RULES).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let url = format!("http://{}/p/file", scene.address);
    // A miss that stores all of it, then a hit.
    for have in [1000, 0, 150_000, body.len() - 1] {
        std::fs::write(&file, &body[..have]).unwrap();
        let mut resume = Command::new(&curl);
        resume.args(["-sS", "--fail", "-C", "-", "-o", file.to_str().unwrap(), &url]);
        let output = tokio::task::spawn_blocking(move || resume.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{have}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(std::fs::read(&file).unwrap() == body, "{have}");
    }
    assert_eq!(origin.count(), 1);
}
