//! A private PostgreSQL.

use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::find::{POSTGRES, User};
use super::{Launch, Program, StackError, free_port, new_folder, wait_until_ready};

/// Makes a cluster and runs its server, without fsync: no data here needs to survive a crash of the machine.
const SERVE: &str = r#"
"$0/initdb" --pgdata="$1/data" --username=cachepage --auth=trust --encoding=UTF8 --no-locale --no-sync >/dev/null &&
exec "$0/postgres" -D "$1/data" -p "$2" -h 127.0.0.1 -k "$1" -F -c max_connections=200 -c log_line_prefix='%d|' \
    -c full_page_writes=off -c synchronous_commit=off
"#;

/// A private server. It is ended and removed when this is dropped or this process ends.
#[derive(Debug)]
pub struct Postgres {
    program: Program,
    programs: PathBuf,
    folder: PathBuf,
    log: PathBuf,
    port: u16,
}

impl Postgres {
    /// Starts an empty server on a free port, in its own folder.
    pub fn start() -> Result<Self, StackError> {
        let programs = POSTGRES.folder()?;
        let (folder, port, user) = (new_folder()?, free_port()?, User::for_postgres());
        if let Some(user) = user {
            chown(&folder, Some(user.uid), Some(user.gid))?;
        }
        let log = folder.join("postgres.log");
        let mut program = Launch::new("PostgreSQL", "/bin/sh".as_ref(), &log)
            .args(["-c".as_ref(), SERVE.as_ref(), programs.as_os_str(), folder.as_os_str()])
            .args([port.to_string()])
            // INT is a fast shutdown; TERM would wait for the clients to disconnect.
            .signal("INT")
            .folder(&folder)
            .user(user)
            .start()?;
        let psql = programs.join("psql");
        wait_until_ready(&mut program, || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
                && psql_command(&psql, &url(port, "postgres"), "SELECT 1").is_ok()
        })?;
        Ok(Self { program, programs, folder, log, port })
    }

    /// One server for all tests of a process.
    ///
    /// # Panics
    /// Panics with the reason if the server cannot be started: a test that needs it must not pass without it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start().unwrap_or_else(|error| panic!("{error}")))
    }

    /// Makes an empty database, which replaces any other of this name, and returns its URL.
    pub fn database(&self, name: &str) -> Result<String, StackError> {
        let admin = url(self.port, "postgres");
        self.psql(&admin, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
        self.psql(&admin, &format!("CREATE DATABASE {name}"))?;
        Ok(url(self.port, name))
    }

    /// Makes the server speak TLS with this certificate and its key (files in PEM), and refuse clients without TLS. This user
    /// then needs a password, and others need none.
    pub fn insist_on_tls(&self, cert: &Path, key: &Path, user: &str) -> Result<(), StackError> {
        let admin = url(self.port, "postgres");
        for (setting, file) in [("ssl_cert_file", cert), ("ssl_key_file", key)] {
            let own = self.folder.join(setting);
            fs::copy(file, &own)?;
            fs::set_permissions(&own, Permissions::from_mode(0o600))?;
            if let Some(user) = User::for_postgres() {
                chown(&own, Some(user.uid), Some(user.gid))?;
            }
            self.psql(&admin, &format!("ALTER SYSTEM SET {setting} = '{}'", own.display()))?;
        }
        let rules = format!("hostssl all {user} all scram-sha-256\nhostssl all all all trust\n");
        fs::write(self.folder.join("data/pg_hba.conf"), rules)?;
        self.psql(&admin, "ALTER SYSTEM SET ssl = on; SELECT pg_reload_conf()")?;
        // The server reads its settings anew a moment later.
        let plain = format!("{admin}?sslmode=disable");
        while self.psql(&plain, "SELECT 1").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Ok(())
    }

    /// Runs SQL up to its first error, and returns the output, unaligned.
    pub fn psql(&self, url: &str, sql: &str) -> Result<String, StackError> {
        psql_command(&self.programs.join("psql"), url, sql)
    }

    /// The file that holds its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Makes the server log each statement of a database, for [`statements`](Self::statements).
    pub fn log_statements(&self, database: &str) -> Result<(), StackError> {
        self.psql(
            &url(self.port, "postgres"),
            &format!("ALTER DATABASE {database} SET log_statement = 'all'"),
        )
        .map(drop)
    }

    /// The logged statements of a database.
    pub fn statements(&self, database: &str) -> Vec<String> {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines = text.lines().filter_map(|line| line.strip_prefix(database)?.strip_prefix("|LOG:  "));
        let statements = lines.filter(|line| line.starts_with("statement: ") || line.starts_with("execute "));
        statements.filter_map(|line| line.split_once(": ")).map(|(_, sql)| sql.to_owned()).collect()
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// The program of the server, to watch it.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }
}

/// The URL of a database on this machine.
fn url(port: u16, database: &str) -> String {
    format!("postgres://cachepage@127.0.0.1:{port}/{database}")
}

fn psql_command(psql: &Path, url: &str, sql: &str) -> Result<String, StackError> {
    let mut command = Command::new(psql);
    command.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // psql does not read all its input if it stops at an error. Its exit status shows the error.
        let _ = std::io::Write::write_all(&mut input, sql.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    Err(StackError::Command { command: "psql".to_owned(), output: said })
}
