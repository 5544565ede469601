//! The Djangos that are tested, each in an environment of its own.

use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use crate::python::{self, say};

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

fn make(version: &str) -> Result<Django, String> {
    let (low, high) = RELEASES
        .iter()
        .find(|(release, ..)| release.split('.').next() == version.split('.').next())
        .map_or((12, 99), |(_, low, high)| (*low, *high));
    let requirements = Path::new(APP).join("requirements.txt").display().to_string();
    let packages = [&format!("Django=={version}"), "-r", &requirements];
    let python = python::environment(&format!("django-{version}"), low..=high, &packages)?;
    Ok(Django { version: version.to_owned(), python })
}
