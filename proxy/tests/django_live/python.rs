//! Python environments. They are made once under `target/tmp` and kept.

use std::env;
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Writes directly to standard error, because the test harness hides what a passing test prints.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}: {text}", env!("CARGO_CRATE_NAME"));
}

/// The interpreter of an environment with these packages, by the first Python 3 here whose minor version is among these.
pub(crate) fn environment(
    name: &str,
    minors: RangeInclusive<u32>,
    packages: &[&str],
) -> Result<PathBuf, String> {
    let (minor, python) = pythons()
        .into_iter()
        .find(|(minor, _)| minors.contains(minor))
        .ok_or_else(|| format!("no Python that can run it was found, from 3.{} on", minors.start()))?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-python3.{minor}"));
    let interpreter = folder.join("bin/python");
    if !interpreter.exists() {
        say(&format!("getting {name} from the package index, once"));
        install(&python, packages, &folder)?;
    }
    Ok(interpreter)
}

/// Makes an environment in a temporary folder and moves it to its place when it is complete, because another run may do
/// the same.
fn install(python: &Path, packages: &[&str], folder: &Path) -> Result<(), String> {
    let parent = folder.parent().ok_or("no folder for it")?;
    std::fs::create_dir_all(parent).map_err(|error| error.to_string())?;
    let new = tempfile::tempdir_in(parent).map_err(|error| error.to_string())?;
    run(Command::new(python).args(["-m", "venv"]).arg(new.path()))?;
    run(Command::new(new.path().join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"])
        .args(packages))?;
    if std::fs::rename(new.path(), folder).is_ok() {
        drop(new.keep());
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.trim().lines().last().unwrap_or("it failed").to_owned())
}

/// The available Pythons 3 that can make environments: `python3`, the others in PATH, and those of pyenv.
fn pythons() -> Vec<(u32, PathBuf)> {
    let names = (8..20).rev().map(|minor| PathBuf::from(format!("python3.{minor}")));
    let root = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".pyenv")));
    let versions = root.and_then(|root| std::fs::read_dir(root.join("versions")).ok());
    let versions = versions.into_iter().flatten().flatten().map(|entry| entry.path().join("bin/python3"));
    let all = [PathBuf::from("python3")].into_iter().chain(names).chain(versions);
    all.filter_map(|python| Some((minor(&python)?, python))).collect()
}

fn minor(python: &Path) -> Option<u32> {
    let program = "import sys, venv, ensurepip; print(sys.version_info[1])";
    let output = Command::new(python).args(["-c", program]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
