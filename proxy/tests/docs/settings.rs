//! Settings: the reference has each one that the code takes, and every file in the docs is one that the proxy takes.

use std::collections::BTreeSet;
use std::fs;

use clap::Parser as _;
use proxy::{Args, Config, Faults};
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use crate::pages::{self, Block, Page};

fn parse(file: &str) -> Result<Config, Faults> {
    Config::parse(&Args::parse_from(["proxy"]), Some(("cachepage.toml", file)))
}

/// The names of all settings that the code takes. Two files, since some settings stand in place of others.
fn taken() -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (file("cert.pem", made.cert.pem()), file("key.pem", made.signing_key.serialize_pem()));
    let tables = format!(
        "keys = \"django\"\n[django.hit_headers]\nx-frame-options = \"DENY\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\ncertificates = [{{ cert = \"{cert}\", key = \"{key}\" }}]\n\
         [[origin]]\nurl = \"https://app\"\n[[follow]]\ndatabase = \"postgres://127.0.0.1/shop\"\n\
         [[cache_page]]\npath = \"/\"\npolicy = \"http\"\n"
    );
    let mut names = BTreeSet::new();
    for file in [&tables, "[[cache_page]]\npath = \"/\"\n"] {
        leaves(&parse(file).unwrap().leaves.json(), "", &mut names);
    }
    names
}

/// The names of the leaves, with those of their sections and tables.
fn leaves(value: &Value, name: &str, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) if members.contains_key("from") => drop(names.insert(open(name))),
        Value::Object(members) => {
            members.iter().for_each(|(part, value)| leaves(value, &joined(name, part), names));
        }
        Value::Array(items) => items.iter().for_each(|item| leaves(item, name, names)),
        _ => {}
    }
}

/// The same of a file.
fn written(value: &DeValue<'_>, name: &str, names: &mut BTreeSet<String>) {
    match value {
        DeValue::Table(members) => members
            .iter()
            .for_each(|(part, value)| written(value.get_ref(), &joined(name, part.get_ref()), names)),
        DeValue::Array(items) if items.iter().any(|item| matches!(item.get_ref(), DeValue::Table(_))) => {
            items.iter().for_each(|item| written(item.get_ref(), name, names));
        }
        _ => drop(names.insert(open(name))),
    }
}

fn joined(name: &str, part: &str) -> String {
    if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") }
}

/// A name without the part that the user chooses.
fn open(name: &str) -> String {
    let is_open = name.starts_with("django.hit_headers.");
    if is_open { "django.hit_headers".to_owned() } else { name.to_owned() }
}

fn files(page: &Page) -> Vec<Block> {
    page.blocks().into_iter().filter(|block| block.language == "toml").collect()
}

#[test]
fn the_reference_lists_each_setting_and_no_other() {
    let mut listed = BTreeSet::new();
    for block in files(&pages::page("docs/settings.md")) {
        let table = DeTable::parse(&block.text).unwrap().into_inner();
        written(&DeValue::Table(table), "", &mut listed);
    }
    let taken = taken();
    let missing: Vec<_> = taken.difference(&listed).collect();
    let unknown: Vec<_> = listed.difference(&taken).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing {missing:?}, unknown {unknown:?}");
}

/// Files that a setting names are not here; nothing else may be wrong.
#[test]
fn each_file_of_settings_in_the_docs_is_one_that_the_proxy_takes() {
    for block in pages::all().iter().flat_map(files) {
        let faults = parse(&block.text).err().map(|faults| faults.to_string()).unwrap_or_default();
        let wrong: Vec<_> = faults.lines().filter(|fault| !fault.contains("cannot be read")).collect();
        assert!(wrong.is_empty(), "{}: {wrong:#?}", block.place);
    }
}
