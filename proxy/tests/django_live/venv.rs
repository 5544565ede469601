//! Python environments, one for each Django. They are made once under `target/` and kept.

use std::collections::HashMap;
use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};

/// The tested releases, with the Pythons that they run on: from `3.LOW` to `3.HIGH`.
const RELEASES: [(&str, u32, u32); 3] = [("5.2.19", 10, 99), ("6.1.3", 12, 99), ("4.2.30", 8, 12)];

/// The variable that names the releases to test, separated by commas.
const VARIABLE: &str = "CACHEPAGE_DJANGO";

/// The release to test if the variable is not set. Each takes half a minute or more.
const DEFAULT: &str = "5.2.19";

/// The folder of the test's site.
pub(crate) const APP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/django/app");

/// A Django that is ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Django {
    pub(crate) version: String,
    pub(crate) python: PathBuf,
}

/// The releases that can be tested here. The others are named on standard error, with the reason.
pub(crate) fn djangos() -> Vec<Django> {
    static MADE: LazyLock<Mutex<HashMap<String, Result<Django, String>>>> = LazyLock::new(Mutex::default);
    let wanted = env::var(VARIABLE).unwrap_or_else(|_| DEFAULT.to_owned());
    let mut made = MADE.lock().unwrap();
    let wanted = wanted.split(',').map(str::trim).filter(|version| !version.is_empty());
    wanted
        .filter_map(|version| {
            let django = made.entry(version.to_owned()).or_insert_with(|| {
                make(version).inspect_err(|why| say(&format!("NOT TESTED with Django {version}: {why}")))
            });
            django.clone().ok()
        })
        .collect()
}

/// Writes directly to standard error, because the test harness hides what a passing test prints.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "django_live: {text}");
}

fn make(version: &str) -> Result<Django, String> {
    let (low, high) = RELEASES
        .iter()
        .find(|(release, ..)| release.split('.').next() == version.split('.').next())
        .map_or((12, 99), |(_, low, high)| (*low, *high));
    let (minor, python) = pythons()
        .into_iter()
        .find(|(minor, _)| (low..=high).contains(minor))
        .ok_or_else(|| format!("no Python that can run it was found, from 3.{low} on"))?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("django-{version}-python3.{minor}"));
    let django = Django { version: version.to_owned(), python: folder.join("bin/python") };
    if !django.python.exists() {
        say(&format!("getting Django {version} from the package index, once"));
        install(&python, version, &folder)?;
    }
    Ok(django)
}

/// Makes an environment in a temporary folder and moves it to its place when it is complete, because another run may do
/// the same.
fn install(python: &Path, version: &str, folder: &Path) -> Result<(), String> {
    let parent = folder.parent().ok_or("no folder for it")?;
    std::fs::create_dir_all(parent).map_err(|error| error.to_string())?;
    let new = tempfile::tempdir_in(parent).map_err(|error| error.to_string())?;
    run(Command::new(python).args(["-m", "venv"]).arg(new.path()))?;
    let requirements = Path::new(APP).join("requirements.txt");
    run(Command::new(new.path().join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"])
        .arg(format!("Django=={version}"))
        .arg("-r")
        .arg(requirements))?;
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
