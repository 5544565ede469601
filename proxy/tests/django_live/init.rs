//! `proxy init --django`: the rules for two projects, whose file the proxy then takes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::venv::djangos;

pub(crate) const PROXY: &str = env!("CARGO_BIN_EXE_proxy");

/// Writes the file for a project, and returns its folder, its text, and what the program says.
fn init(layout: &str, python: &Path) -> (TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let manage =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/django/layouts").join(layout).join("manage.py");
    let file = folder.path().join("cachepage.toml");
    let mut command = Command::new(PROXY);
    command.arg("init").arg("--django").arg(manage).arg("--python").arg(python).arg("--output").arg(&file);
    let said = succeeded(&command.output().unwrap());
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(command.output().unwrap().status.code(), Some(1), "a file that is there stays");
    (folder, text, said)
}

pub(crate) fn succeeded(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// The rules that the proxy reads from the file: path and timeout.
pub(crate) fn rules(folder: &TempDir) -> Vec<(String, Option<u64>)> {
    let file: PathBuf = folder.path().join("cachepage.toml");
    let output = Command::new(PROXY).arg("--config").arg(file).args(["check", "--json"]).output().unwrap();
    succeeded(&output);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["warnings"], Value::Array(Vec::new()));
    let rules = summary["rules"].as_array().unwrap().iter();
    rules.map(|rule| (rule["path"].as_str().unwrap().to_owned(), rule["timeout"].as_u64())).collect()
}

fn expected(rules: &[(&str, Option<u64>)]) -> Vec<(String, Option<u64>)> {
    rules.iter().map(|&(path, timeout)| (path.to_owned(), timeout)).collect()
}

#[test]
fn a_project_in_one_folder_gets_its_rules() {
    for django in djangos() {
        let (folder, text, said) = init("plain", &django.python);
        assert_eq!(
            rules(&folder),
            expected(&[("/homes/", Some(300)), ("/", Some(300)), ("/news/*", Some(3600))])
        );
        for line in [
            "store  = \"redis://127.0.0.1:6379/3\"",
            "key_prefix = \"shop\"",
            "key_version = 2",
            "language = \"de\"",
            "X-Frame-Options = \"\"",
            "# path = \"/homes/*\"",
            "# path = \"/about/\"",
            "# path = \"/feed.xml\"",
        ] {
            assert!(text.lines().any(|given| given == line), "{line}\n{text}");
        }
        for path in ["time_zone", "/cart/", "/account/"] {
            assert!(!text.contains(path), "{path}\n{text}");
        }
        for unseen in
            ["site_middleware.Stamp", "/homes/*: the rule is a comment", "/feed.xml: the rule is a comment"]
        {
            assert!(said.contains(unseen), "{unseen}\n{said}");
        }
    }
}

#[test]
fn a_project_of_classes_and_view_sets_gets_its_rules() {
    for django in djangos() {
        let (folder, text, _) = init("nested", &django.python);
        let wanted = [("/shop/offers/", Some(120)), ("/api/homes/", Some(90)), ("/shop/prices/*", Some(30))];
        assert_eq!(rules(&folder), expected(&wanted));
        for line in [
            "store  = \"redis://:secret@cache:6379/1\"",
            "languages = [\"de\", \"en\"]",
            "time_zone = \"Europe/Berlin\"",
            "compressor = \"zlib\"",
            "X-Frame-Options = \"SAMEORIGIN\"",
            "# path = \"/shop/imprint/\"",
            "# path = \"/api/homes/*\"",
        ] {
            assert!(text.lines().any(|given| given == line), "{line}\n{text}");
        }
        assert!(!text.contains("orders") && !text.contains("contact"), "{text}");
    }
}

#[test]
fn a_project_that_does_not_answer_is_said_with_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let manage = folder.path().join("manage.py");
    std::fs::write(&manage, "raise SystemExit('no database')").unwrap();
    let output =
        Command::new(PROXY).args(["init", "--python", "python3", "--django"]).arg(&manage).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("does not answer: no database; --python names"), "{said}");
}
