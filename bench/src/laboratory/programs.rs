//! Builds and finds the programs of this workspace.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::error::LabError;

const NAMES: [&str; 3] = ["origin", "proxy", "seed"];

/// The folder with origin, proxy and seed. It is the folder of this program.
#[derive(Clone, Debug)]
pub(crate) struct Programs(PathBuf);

impl Programs {
    /// Under `cargo run`, builds the programs, so that they match the sources; otherwise takes them as they are.
    pub(crate) async fn build() -> Result<Self, LabError> {
        let own = env::current_exe()?;
        let programs = Self(own.parent().unwrap_or(Path::new("")).to_owned());
        if let Some(cargo) = env::var_os("CARGO") {
            println!("Building origin, proxy and seed.");
            let mut cargo = without_package(&cargo);
            // Cargo compiles a dependency once for each set of features. `--workspace` selects the same features as `cargo
            // build --release`. `cargo test` also selects the features of dev-dependencies; `--examples` adds them, and there
            // are no examples to build.
            cargo.args(["build", "--workspace"]).args(NAMES.iter().flat_map(|name| ["--bin", name]));
            match programs.profile() {
                "debug" => cargo.arg("--examples"),
                profile => cargo.args(["--profile", profile]),
            };
            build(cargo.current_dir(env!("CARGO_MANIFEST_DIR"))).await?;
        }
        match NAMES.map(|name| programs.path(name)).iter().find(|path| !path.is_file()) {
            Some(missing) => Err(LabError::NotBuilt(missing.display().to_string())),
            None => Ok(programs),
        }
    }

    /// The build profile of this program. Cargo names its folder after it.
    fn profile(&self) -> &str {
        self.0.file_name().and_then(OsStr::to_str).unwrap_or("release")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// A command without the variables that Cargo sets for the package it runs, such as `CARGO_PKG_NAME`. Build scripts watch
/// them: with them, the inner Cargo would run the scripts again, and then so would the outer one.
fn without_package(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_a_package(name)) {
        command.env_remove(name);
    }
    command
}

/// Whether Cargo sets this variable. `CARGO_HOME`, `CARGO_TARGET_DIR` and the like are set by the user.
fn is_of_a_package(name: &OsStr) -> bool {
    const PREFIXES: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
    let name = name.to_string_lossy();
    ["CARGO", "OUT_DIR"].contains(&&*name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

async fn build(command: &mut Command) -> Result<(), LabError> {
    let mut cargo = command.process_group(0).spawn().map_err(LabError::NoCargo)?;
    let _group = Group::of(cargo.id());
    let status: ExitStatus = cargo.wait().await?;
    if status.success() { Ok(()) } else { Err(LabError::Build(status)) }
}

/// The process group of cargo and its compilers. Dropping it ends them all.
struct Group(Option<Pid>);

impl Group {
    fn of(leader: Option<u32>) -> Self {
        Self(leader.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // If cargo has ended, the group is gone and this fails.
            let _ = kill_process_group(group, Signal::TERM);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_inner_cargo_gets_no_variable_of_the_outer_ones_package() {
        assert!(env::var_os("CARGO_PKG_NAME").is_some(), "this test runs under Cargo");
        let output = without_package("env".as_ref()).output().await.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let mut names = said.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
        assert!(names.clone().any(|name| name == "PATH"), "{said}");
        assert_eq!(names.find(|name| name.starts_with("CARGO_PKG_") || *name == "CARGO_MANIFEST_DIR"), None);
    }

    #[test]
    fn variables_that_the_user_sets_for_cargo_are_kept() {
        for (name, is_of) in [
            ("CARGO", true),
            ("CARGO_PKG_VERSION_MAJOR", true),
            ("CARGO_MANIFEST_DIR", true),
            ("OUT_DIR", true),
            ("CARGO_HOME", false),
            ("CARGO_TARGET_DIR", false),
            ("CARGO_BUILD_JOBS", false),
            ("CARGO_PROFILE_RELEASE_LTO", false),
            ("RUSTFLAGS", false),
        ] {
            assert_eq!(is_of_a_package(name.as_ref()), is_of, "{name}");
        }
    }
}
