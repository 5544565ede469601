//! What the commands of the docs find: an origin, a Redis, a proxy with an admin listener, and programs on the PATH. The
//! docs name the usual ports; the commands get others.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;

use stack::{Redis, free_port};
use tempfile::TempDir;

use crate::pages::root;

/// The settings of the proxy that runs beside the commands.
const SETTINGS: &str = "store = \"memory\"\n[purge]\nallow = [\"127.0.0.1\"]\n\
                        [[cache_page]]\npath = \"/blog/*\"\n[[cache_page]]\npath = \"/api/properties/cached/\"\n";

/// What all blocks share.
pub(crate) struct Theatre {
    redis: Redis,
    origin: u16,
}

/// What one block has for itself.
pub(crate) struct Stage<'a> {
    theatre: &'a Theatre,
    folder: TempDir,
    proxy: u16,
    admin: u16,
    servers: Vec<Server>,
}

/// A program that serves until it is dropped, with all that it has started.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        let _ = self.0.wait();
    }
}

impl Theatre {
    pub(crate) fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = listener.local_addr().unwrap().port();
        thread::spawn(move || listener.incoming().for_each(|stream| drop(answer(stream))));
        Self { redis: Redis::start().unwrap(), origin }
    }

    /// A stage with an empty Redis.
    pub(crate) fn stage(&self) -> Stage<'_> {
        self.redis.cli(&["FLUSHALL"]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("programs");
        fs::create_dir(&programs).unwrap();
        for name in ["proxy", "cachepage"] {
            symlink(env!("CARGO_BIN_EXE_proxy"), programs.join(name)).unwrap();
        }
        symlink(self.redis.cli_program(), programs.join("redis-cli")).unwrap();
        symlink(root().join("bench"), folder.path().join("bench")).unwrap();
        let (proxy, admin) = (free_port().unwrap(), free_port().unwrap());
        Stage { theatre: self, folder, proxy, admin, servers: Vec::new() }
    }
}

/// Answers one request with a small page, as an origin does that closes each connection.
fn answer(stream: std::io::Result<std::net::TcpStream>) -> std::io::Result<()> {
    let mut stream = stream?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\nConnection: close\r\n\r\npage\n",
    )
}

impl Stage<'_> {
    /// The usual ports, and those that stand for them here.
    fn ports(&self) -> [(u16, u16); 4] {
        let redis = self.theatre.redis.port();
        [(8000, self.proxy), (8001, self.theatre.origin), (8002, self.admin), (6379, redis)]
    }

    fn here(&self, text: &str) -> String {
        let swap =
            |text: String, (usual, here): (u16, u16)| text.replace(&format!(":{usual}"), &format!(":{here}"));
        self.ports().into_iter().fold(text.to_owned(), swap)
    }

    fn usual(&self, text: &str) -> String {
        let swap =
            |text: String, (usual, here): (u16, u16)| text.replace(&format!(":{here}"), &format!(":{usual}"));
        self.ports().into_iter().fold(text.to_owned(), swap)
    }

    /// Starts a proxy for commands that ask one.
    pub(crate) fn with_proxy(mut self) -> Self {
        let file = self.folder.path().join("running.toml");
        fs::write(&file, SETTINGS).unwrap();
        self.serve(&format!("proxy --config '{}' --admin 127.0.0.1:8002", file.display()), 2);
        self
    }

    /// Starts a command that serves until the end of the block, and gives what it prints first.
    pub(crate) fn serve(&mut self, line: &str, lines: usize) -> String {
        let mut command = self.command(line);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let printed = BufReader::new(child.stdout.take().unwrap()).lines().take(lines.max(1));
        let printed: Vec<_> = printed.map(Result::unwrap).collect();
        self.servers.push(Server(child));
        self.usual(&printed.join("\n"))
    }

    /// Runs a command to its end, and gives what it prints and whether it succeeds.
    pub(crate) fn run(&self, line: &str) -> (String, bool) {
        let output = self.command(line).output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed).replace('\r', "");
        (self.usual(printed.trim_end()), output.status.success())
    }

    fn command(&self, line: &str) -> Command {
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", &self.here(line)])
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", self.folder.path().join("programs").display()))
            .env("PROXY_LISTEN", self.here("127.0.0.1:8000"))
            .env("PROXY_ORIGIN", self.here("http://127.0.0.1:8001"))
            .env("REDIS_URL", self.here("redis://127.0.0.1:6379/1"))
            .env("REDIS", self.here("redis://127.0.0.1:6379/1"))
            .stdin(Stdio::null())
            .process_group(0);
        command
    }
}
