//! Spelling, by codespell: in the pages, and in the comments and messages of all sources.

use std::process::Command;

use crate::pages::root;
use crate::python;

/// The release, which brings its list of misspellings.
const CODESPELL: &str = "codespell==2.4.1";

/// Files that programs write, and data.
const SKIPPED: &str = "./.git,./target,./fuzz/target,./fuzz/corpus,node_modules,*.lock,*.json,*.svg";

/// Words that are right, though the list has them: names (`TE`, `Nd`, `InForce`, `ser`), and the start of an escaped café.
const RIGHT: &str = "caf,inforce,nd,ser,te";

#[test]
fn words_are_spelled_right() {
    let python = match python::environment("codespell-2.4.1", 9..=99, &[CODESPELL]) {
        Ok(python) => python,
        Err(why) => return python::say(&format!("SPELLING NOT TESTED: {why}")),
    };
    let options =
        ["-m", "codespell_lib", "--check-hidden", "--skip", SKIPPED, "--ignore-words-list", RIGHT, "."];
    let checked = Command::new(python).args(options).current_dir(root()).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}
