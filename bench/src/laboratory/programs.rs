//! The programs of this workspace, built, and where they are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::error::LabError;

/// The folder with origin, proxy and seed: that of our own program.
#[derive(Debug)]
pub(crate) struct Programs(PathBuf);

impl Programs {
    /// Under `cargo run` builds them, so that what is shown is what the sources say; else takes them as they are.
    pub(crate) async fn build() -> Result<Self, LabError> {
        let own = env::current_exe()?;
        let programs = Self(own.parent().unwrap_or(Path::new("")).to_owned());
        if let Some(cargo) = env::var_os("CARGO") {
            println!("Building origin, proxy and seed.");
            let mut command = Command::new(cargo);
            command.args(["build", "-p", "origin", "-p", "proxy", "-p", "seed", "--bins"]);
            // The same folder as ours.
            command.args((!cfg!(debug_assertions)).then_some("--release"));
            build(command.current_dir(env!("CARGO_MANIFEST_DIR"))).await?;
        }
        match ["origin", "proxy", "seed"].map(|name| programs.path(name)).iter().find(|path| !path.is_file())
        {
            Some(missing) => Err(LabError::NotBuilt(missing.display().to_string())),
            None => Ok(programs),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

async fn build(command: &mut Command) -> Result<(), LabError> {
    let mut cargo = command.process_group(0).spawn().map_err(LabError::NoCargo)?;
    let _group = Group::of(cargo.id());
    let status: ExitStatus = cargo.wait().await?;
    if status.success() { Ok(()) } else { Err(LabError::Build(status)) }
}

/// A process group: cargo and its compilers. Whoever stops us stops them all.
struct Group(Option<Pid>);

impl Group {
    fn of(leader: Option<u32>) -> Self {
        Self(leader.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // When cargo is through there is nobody left to tell.
            let _ = kill_process_group(group, Signal::TERM);
        }
    }
}
