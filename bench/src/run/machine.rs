//! The machine of a run: its hardware and software, without its name.

use std::fmt::{self, Display, Formatter};
use std::fs;

use serde::{Deserialize, Serialize};

/// The machine and what runs on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) system: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) postgres: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) redis: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) django: String,
    /// The build profile of the measured programs.
    pub(crate) build: String,
}

impl Machine {
    /// The machine that this runs on.
    pub(crate) fn here() -> Self {
        let system = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        Self {
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| text(system.machine())),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: memory_gib().unwrap_or_default(),
            system: format!("{} {}", text(system.sysname()), text(system.release())),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            ..Self::default()
        }
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, memory_gib, system, .. } = self;
        write!(f, "{processor}, {cores} cores")?;
        if *memory_gib > 0.0 {
            write!(f, ", {memory_gib:.0} GiB")?;
        }
        write!(f, ", {system}")?;
        for (name, version) in
            [("PostgreSQL", &self.postgres), ("Redis", &self.redis), ("Django", &self.django)]
        {
            if !version.is_empty() {
                write!(f, ", {name} {version}")?;
            }
        }
        write!(f, ", {} build", self.build)
    }
}

/// A field of a file in /proc; `None` on systems without it.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_gib() -> Option<f64> {
    let kib: f64 = field("/proc/meminfo", "MemTotal")?.trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / 1024.0 / 1024.0)
}
