//! Chromium, driven by a script of Node.

use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::task::spawn_blocking;

/// Chromium, and the packages that drive it.
pub(crate) struct Browser {
    chromium: PathBuf,
    modules: PathBuf,
}

impl Browser {
    /// With the packages that drive it; else what is missing.
    pub(crate) async fn find() -> Result<Self, String> {
        let chromium = ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(in_path);
        let chromium = chromium.ok_or("chromium is not on the PATH")?;
        in_path("node").zip(in_path("npm")).ok_or("node and npm are not on the PATH")?;
        Ok(Self { chromium, modules: install().await? })
    }

    /// Runs one of the scripts on a URL, which prints what is wrong.
    pub(crate) async fn run(&self, script: &str, url: &str, more: &[&str]) {
        let mut node = Command::new("node");
        node.arg(folder().join(script)).arg(url).arg(&self.modules).arg(&self.chromium).args(more);
        let seen = spawn_blocking(move || node.output()).await.unwrap().unwrap();
        let said = [seen.stdout, seen.stderr].concat();
        assert!(seen.status.success(), "{}", String::from_utf8_lossy(&said));
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser")
}

fn in_path(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Installs the packages that drive the browser, once for a build folder.
async fn install() -> Result<PathBuf, String> {
    let modules = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
    std::fs::create_dir_all(&modules).unwrap();
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(folder().join(file), modules.join(file)).unwrap();
    }
    if modules.join("node_modules/axe-core/axe.js").exists() {
        return Ok(modules);
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&modules);
    let output = spawn_blocking(move || npm.output()).await.unwrap().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(modules),
        false => Err(format!("npm ci: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
