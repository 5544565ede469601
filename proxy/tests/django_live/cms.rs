//! A site of Wagtail and Django REST Framework with `contrib/django`, behind a proxy whose file `proxy init` wrote: after
//! each change visitors see the page that is meant.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use stack::{Launch, Program, Redis, free_port};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::chromium::Browser;
use crate::init::{PROXY, rules, succeeded};
use crate::python::{environment, say};

const CMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/django/cms");

const CONTRIB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/django");

/// The rule for the pages of Wagtail, which `proxy init` writes as a comment.
const PAGES: &str = "MARK[[cache_page]]\nMARKpath = \"/*\"\nMARKtimeout = 60\n";

/// A busy machine may keep Redis waiting for longer than the 50 ms after which a page is a miss.
const PATIENT: &str = "\n[deadlines]\nstore = \"10s\"\n";

/// A start of Wagtail takes seconds, and longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The site, with its Python, its database and its cache.
struct Cms {
    python: PathBuf,
    /// Holds the database, the proxy's settings and its admin listener's socket.
    folder: TempDir,
    redis: Redis,
}

impl Cms {
    fn new() -> Result<Self, String> {
        let requirements = format!("-r{CMS}/requirements.txt");
        let python = environment("cms", 10..=99, &[&requirements])?;
        let (folder, redis) = (tempfile::tempdir().unwrap(), Redis::start().unwrap());
        Ok(Self { python, folder, redis })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The environment of its programs.
    fn env(&self) -> [(&'static str, String); 5] {
        [
            ("DATABASE", self.path("database").display().to_string()),
            ("REDIS", format!("redis://127.0.0.1:{}/1", self.redis.port())),
            ("ADMIN", format!("unix:{}", self.path("admin.sock").display())),
            ("PYTHONPATH", CONTRIB.to_owned()),
            // Python writes no files next to the sources.
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ]
    }

    /// Runs a program of the site, and returns what it prints.
    fn run(&self, args: &[&str]) -> String {
        let mut command = Command::new(&self.python);
        let output = command.args(args).current_dir(CMS).envs(self.env()).output().unwrap();
        succeeded(&output);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Has `proxy init` write the proxy's settings, and takes its proposal for the pages of Wagtail, for longer than the
    /// editor's browser takes on a busy machine.
    fn init(&self) {
        let (file, manage) = (self.path("cachepage.toml"), Path::new(CMS).join("manage.py"));
        let mut init = Command::new(PROXY);
        init.arg("init").arg("--django").arg(manage).arg("--python").arg(&self.python);
        succeeded(&init.arg("--output").arg(&file).envs(self.env()).output().unwrap());
        let text = std::fs::read_to_string(&file).unwrap();
        let [proposal, rule] = ["# ", ""].map(|mark| PAGES.replace("MARK", mark));
        assert_eq!(text.matches(&proposal).count(), 1, "{text}");
        std::fs::write(file, text.replace(&proposal, &rule.replace("60", "600")) + PATIENT).unwrap();
    }

    /// Serves the site on this port.
    fn serve(&self, port: u16) -> Program {
        let mut launch = Launch::new("gunicorn", &self.python, &self.path("gunicorn.log"))
            .args(["-m", "gunicorn", "--workers", "1", "--threads", "4", "--graceful-timeout", "1"])
            .args(["--no-control-socket", "--bind", &format!("127.0.0.1:{port}"), "--chdir", CMS])
            .args(["django.core.wsgi:get_wsgi_application()"])
            .env("DJANGO_SETTINGS_MODULE", "cms_settings");
        for (name, value) in self.env() {
            launch = launch.env(name, &value);
        }
        launch.start().unwrap()
    }
}

/// A running proxy. Dropping it kills it.
struct Running(Child);

impl Running {
    fn start(cms: &Cms, port: u16, origin: u16) -> Self {
        let mut proxy = Command::new(PROXY);
        proxy
            .arg("--config")
            .arg(cms.path("cachepage.toml"))
            .args(["--listen", &format!("127.0.0.1:{port}")]);
        proxy.args(["--origin", &format!("http://127.0.0.1:{origin}")]).stdout(Stdio::null());
        proxy.arg("--admin").arg(format!("unix:{}", cms.path("admin.sock").display()));
        Self(proxy.stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something listens on this port, and says whether it does.
async fn listens(port: u16) -> bool {
    let up = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, up).await.is_ok()
}

#[tokio::test]
async fn visitors_see_the_page_that_is_meant_after_each_change_of_a_site_with_wagtail_and_an_api() {
    let (cms, browser) = match (Cms::new(), Browser::find().await) {
        (Ok(cms), Ok(browser)) => (cms, browser),
        (Err(why), _) | (_, Err(why)) => return say(&format!("NOT TESTED with Wagtail in a browser: {why}")),
    };
    cms.init();
    let wanted = [("/api/homes/", Some(3600)), ("/api/homes/*", Some(3600)), ("/*", Some(600))];
    assert_eq!(rules(&cms.folder), wanted.map(|(path, timeout)| (path.to_owned(), timeout)));
    let (port, origin) = (free_port().unwrap(), free_port().unwrap());
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cms.sqlite3").display().to_string();
    let keys = cms.run(&["seed.py", &port.to_string(), &kept]);
    let [article, imprint] = keys.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{keys}") };
    let site = cms.serve(origin);
    assert!(listens(origin).await, "{}", site.last_lines(30));
    let _proxy = Running::start(&cms, port, origin);
    assert!(listens(port).await, "the proxy");
    browser.run("editor.mjs", &format!("http://127.0.0.1:{port}"), &[article, imprint]).await;
}
