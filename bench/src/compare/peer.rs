//! The servers that are compared, each with its best settings for this load (`bench/peers`).

use std::env;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stack::{Launch, Program, Redis, StackError, free_port};
use tempfile::TempDir;

use super::entrant::{Entrant, Kind, Setup};
use super::head::SITE;

/// Why a server is not compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Absent {
    #[error("{0} is not installed")]
    NotInstalled(&'static str),
    #[error("it does not answer at {0}")]
    Silent(SocketAddr),
    #[error(transparent)]
    Stack(#[from] StackError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A running server. Dropping it ends the server.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) entrant: Entrant,
    pub(crate) address: SocketAddr,
    program: Program,
}

/// The parts that all servers share, for one size of page.
pub(crate) struct Ground<'a> {
    pub(crate) redis: &'a Redis,
    pub(crate) origin: SocketAddr,
    /// The size of the page, in bytes.
    pub(crate) size: usize,
    /// The program to start as the proxy; `None` means the one next to this program.
    pub(crate) proxy: Option<&'a Path>,
}

impl Peer {
    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Starts a server and waits until it answers.
    pub(crate) fn start(entrant: Entrant, ground: &Ground<'_>) -> Result<Self, Absent> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let folder = folder()?;
        let settings = Settings { address, folder: folder.path(), ground };
        let launch = match entrant.kind {
            Kind::Redis => settings.proxy("off", entrant.setup)?,
            // This is enough for all pages and variants of a case.
            Kind::Near => settings.proxy("1GiB", entrant.setup)?,
            Kind::Nginx => settings.nginx()?,
            Kind::Varnish => settings.varnish()?,
            Kind::Bloom => settings.bloom()?,
            Kind::Django => settings.django()?,
            Kind::Hyper => settings.yardstick("hyper")?,
            Kind::Raw => settings.yardstick("raw")?,
        };
        // From here on, the guard removes the folder when the program ends.
        let program = launch.folder(&folder.keep()).start()?;
        let peer = Self { entrant, address, program };
        peer.wait()?;
        Ok(peer)
    }

    /// The origin of all other servers: hyper, in memory.
    pub(crate) fn origin(redis: &Redis, size: usize) -> Result<Self, Absent> {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::start(Entrant::new(Kind::Hyper), &Ground { redis, origin: nowhere, size, proxy: None })
    }

    fn wait(&self) -> Result<(), Absent> {
        const PATIENCE: Duration = Duration::from_secs(15);
        const PAUSE: Duration = Duration::from_millis(20);
        let started = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if started.elapsed() > PATIENCE {
                return Err(Absent::Silent(self.address));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Turns off what Varnish logs to shared memory for a hit. It has no single switch for this.
const VARNISH_WITHOUT_LOG: &str = "vsl_mask=-Begin,-End,-Link,-ReqStart,-ReqMethod,-ReqURL,-ReqProtocol,-ReqHeader,\
                                   -ReqUnset,-ReqAcct,-RespProtocol,-RespStatus,-RespReason,-RespHeader,-RespUnset,\
                                   -VCL_call,-VCL_return,-Hit,-Timestamp";

struct Settings<'a> {
    address: SocketAddr,
    folder: &'a Path,
    ground: &'a Ground<'a>,
}

impl Settings<'_> {
    fn proxy(&self, near: &str, setup: Setup) -> Result<Launch, Absent> {
        let program = self.ground.proxy.map_or_else(|| own("proxy"), |program| Ok(program.to_owned()))?;
        let text = include_str!("../../peers/proxy.toml")
            .replace("@NEAR@", near)
            .replace("@SITE@", SITE)
            .replace("@KEYS@", setup.keys())
            .replace("@RULES@", &setup.rules());
        let file = self.write("proxy.toml", &text)?;
        Ok(self.launch("proxy", &program).args(["--config".as_ref(), file.as_os_str()]))
    }

    fn nginx(&self) -> Result<Launch, Absent> {
        let program = find("nginx")?;
        let file = self.write("nginx.conf", include_str!("../../peers/nginx.conf"))?;
        let args = ["-c".as_ref(), file.as_os_str(), "-p".as_ref(), self.folder.as_os_str()];
        Ok(self.launch("nginx", &program).args(args))
    }

    fn varnish(&self) -> Result<Launch, Absent> {
        /// No log, as with the other servers (this saves 0.15 of a hit), and no gzip, since pages are not compressed (this
        /// saves 0.03).
        const PARAMETERS: [&str; 4] = ["-p", VARNISH_WITHOUT_LOG, "-p", "http_gzip_support=off"];
        let program = find("varnishd")?;
        let file = self.write("varnish.vcl", include_str!("../../peers/varnish.vcl"))?;
        let listen = self.address.to_string();
        let args = ["-F", "-a", &listen, "-s", "malloc,1g", "-f"];
        let launch = self.launch("varnishd", &program).args(PARAMETERS).args(args);
        let folder = self.folder.join("varnish");
        Ok(launch.args([file.as_os_str(), "-n".as_ref(), folder.as_os_str()]))
    }

    fn bloom(&self) -> Result<Launch, Absent> {
        let program = find("bloom")?;
        let file = self.write("bloom.cfg", include_str!("../../peers/bloom.cfg"))?;
        Ok(self.launch("bloom", &program).args(["-c".as_ref(), file.as_os_str()]))
    }

    fn django(&self) -> Result<Launch, Absent> {
        let python = find("python3")?;
        let modules = ["-c", "import django, gunicorn, redis"];
        let check = Command::new(&python).args(modules).stderr(Stdio::null()).status()?;
        if !check.success() {
            return Err(Absent::NotInstalled("Django with gunicorn and redis for python3"));
        }
        self.write("django_page.py", include_str!("../../peers/django_page.py"))?;
        let listen = self.address.to_string();
        let folder = self.folder.display().to_string();
        let args = ["-m", "gunicorn", "--chdir", &folder, "--bind", &listen, "--workers", "2", "django_page"];
        let redis = format!("redis://127.0.0.1:{}/3", self.ground.redis.port());
        let launch = self.launch("gunicorn", &python).args(args).env("BENCH_REDIS", &redis);
        Ok(launch.env("BENCH_SIZE", &self.ground.size.to_string()))
    }

    fn yardstick(&self, kind: &str) -> Result<Launch, Absent> {
        let (listen, size) = (self.address.to_string(), self.ground.size.to_string());
        let launch = self.launch("yardstick", &env::current_exe()?);
        Ok(launch.args(["floor", kind, "--listen", &listen, "--size", &size]))
    }

    fn launch(&self, name: &str, program: &Path) -> Launch {
        Launch::new(name, program, &self.folder.join("log"))
    }

    /// Writes a configuration file with its placeholders filled in.
    fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let origin = self.ground.origin;
        let text = text
            .replace("@LISTEN@", &self.address.to_string())
            .replace("@CONTROL@", &format!("127.0.0.1:{}", free_port()?))
            .replace("@ORIGIN@", &origin.to_string())
            .replace("@ORIGIN_HOST@", &origin.ip().to_string())
            .replace("@ORIGIN_PORT@", &origin.port().to_string())
            .replace("@REDIS_PORT@", &self.ground.redis.port().to_string())
            .replace("@FOLDER@", &self.folder.display().to_string());
        let file = self.folder.join(name);
        fs::write(&file, text)?;
        Ok(file)
    }
}

/// A folder on the RAM disk, if there is one: nginx keeps its pages there. Workers of another user may enter it.
fn folder() -> io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { memory.to_owned() } else { env::temp_dir() };
    let folder = tempfile::Builder::new().prefix("cachepage-").tempdir_in(root)?;
    #[cfg(unix)]
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    Ok(folder)
}

/// A program of this workspace, next to this program.
fn own(name: &'static str) -> Result<PathBuf, Absent> {
    let program = env::current_exe()?.with_file_name(name);
    if program.is_file() { Ok(program) } else { Err(Absent::NotInstalled(name)) }
}

/// A program on PATH or in Debian's folders for servers.
pub(crate) fn find(name: &'static str) -> Result<PathBuf, Absent> {
    let path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo/bin"));
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]).chain(home);
    folders
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .ok_or(Absent::NotInstalled(name))
}
