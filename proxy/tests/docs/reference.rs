//! Flags, variables, commands, the words of `Cache-Status`, headers, and paths of the admin listener: the reference has those
//! of the code, and no other.

use std::collections::BTreeSet;

use clap::{Arg, Command, CommandFactory as _};
use proxy::Args;

use crate::names::{self, is_name, texts};
use crate::pages;

/// The functions that give the words of `Cache-Status`.
const WORDS: &[(&str, &str)] = &[
    ("proxy/src/status.rs", "fn detail(self)"),
    ("proxy/src/status.rs", "fn detail(self, source: Source)"),
    ("proxy/src/request/coding.rs", "fn name(self)"),
    ("proxy/src/status.rs", "fn fwd(self)"),
    (
        "proxy/src/status.rs",
        "fn parameters(self) -> &'static str {\n        match self {\n            Self::Stored",
    ),
    ("proxy/src/status.rs", "const ONLY_IF_CACHED"),
    ("proxy/src/policy.rs", "fn name(self)"),
    ("proxy/src/policy/rules.rs", "fn name(self)"),
    ("proxy/src/policy/http/serving.rs", "fn name(self)"),
    ("proxy/src/error.rs", "fn kind(&self)"),
    ("proxy/src/way/reply.rs", "fn unforwarded()"),
    ("proxy/src/way/purge.rs", "fn name(self)"),
    ("server/src/refused.rs", "impl From<HeadFault>"),
    ("server/src/refused.rs", "impl From<Full>"),
];

/// The flags that commands have besides those of the proxy.
fn flags(command: &Command) -> BTreeSet<String> {
    let long = |arg: &Arg| arg.get_long().map(|name| format!("--{name}"));
    command.get_arguments().filter_map(long).collect()
}

/// The flags in texts such as `--cache PATH[=SECONDS]`.
fn named_flags(rows: &[Vec<String>]) -> BTreeSet<String> {
    let codes = rows.iter().flatten().filter(|code| code.starts_with("--"));
    codes.map(|code| code.split(' ').next().unwrap().to_owned()).collect()
}

/// The programs, each with the page and heading of its table of flags.
fn programs() -> [(Command, &'static str, &'static str); 3] {
    [
        (Args::command(), "docs/settings.md", "## Flags and variables"),
        (origin::Args::command(), "docs/laboratory.md", "### origin"),
        (seed::Args::command(), "docs/laboratory.md", "### seed"),
    ]
}

#[test]
fn the_reference_lists_each_flag_with_its_variable_and_no_other() {
    for (command, page, heading) in programs() {
        let page = pages::page(page);
        assert_eq!(named_flags(&page.first_cells(heading)), flags(&command), "{heading}");
        for arg in command.get_arguments() {
            let (long, variable) = (arg.get_long().unwrap(), arg.get_env().unwrap().to_str().unwrap());
            let mut rows = page.section(heading).lines().map(|line| line.replace('`', " "));
            let row = rows.find(|row| row.starts_with(&format!("|  --{long} "))).unwrap();
            assert!(row.contains(&format!("|  {variable}  |")), "{row}");
        }
    }
}

#[test]
fn the_reference_lists_each_command_with_its_flags_and_no_other() {
    let page = pages::page("docs/commands.md");
    let headings: BTreeSet<_> = page.text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let command = Args::command();
    assert_eq!(command.get_subcommands().map(Command::get_name).collect::<BTreeSet<_>>(), headings);
    for command in command.get_subcommands() {
        let name = command.get_name();
        assert_eq!(named_flags(&page.first_cells(&format!("## {name}"))), flags(command), "proxy {name}");
    }
}

/// The words in a text such as `cachepage; fwd=miss; detail=head`, or the text itself if it is one word.
fn words(text: &str) -> Vec<String> {
    let parts = text.split("; ");
    let values = parts.filter_map(|part| part.strip_prefix("detail=").or_else(|| part.strip_prefix("fwd=")));
    values.chain([text]).filter(|word| is_name(word)).map(str::to_owned).collect()
}

#[test]
fn the_reference_lists_each_word_of_cache_status_and_no_other() {
    let page = pages::page("docs/headers.md");
    let rows = page.first_cells("## X-Cache and Cache-Status");
    let listed: BTreeSet<_> = rows.iter().flatten().flat_map(|code| words(code)).collect();
    let given = WORDS.iter().flat_map(|(file, item)| texts(file, item));
    let mut given: BTreeSet<_> = given.flat_map(|text| words(&text)).collect();
    // The values of `fwd` for what was neither looked up nor found.
    given.insert("bypass".to_owned());
    let missing: Vec<_> = given.difference(&listed).collect();
    let unknown: Vec<_> = listed.difference(&given).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing {missing:?}, unknown {unknown:?}");
    assert!(given.len() > 50, "{given:?}");
}

#[test]
fn the_reference_lists_each_path_of_the_admin_listener_and_no_other() {
    let rows = pages::page("docs/admin.md").first_cells("# The admin listener");
    let requests = rows.iter().flatten().filter_map(|code| code.split_once(" /").map(|(_, path)| path));
    let listed: BTreeSet<_> = requests.map(|path| format!("/{}", path.split('?').next().unwrap())).collect();
    let served: BTreeSet<_> = texts("proxy/src/admin/access.rs", "fn path(self)").into_iter().collect();
    assert_eq!(listed, served);
}

#[test]
fn the_reference_lists_each_header_and_no_other() {
    let page = pages::page("docs/headers.md");
    let rows = ["## Headers of requests", "## Headers of answers"].map(|heading| page.first_cells(heading));
    let names = rows.iter().flatten().flatten().map(|code| code.split(':').next().unwrap().to_lowercase());
    let listed: BTreeSet<_> = names.filter(|name| !name.ends_with('…')).collect();
    let known = names::headers();
    let missing: Vec<_> = known.difference(&listed).collect();
    assert!(missing.is_empty(), "missing {missing:?}");
    let unknown: Vec<_> = listed.difference(&known).filter(|name| !names::is_written(name)).collect();
    assert!(unknown.is_empty(), "unknown {unknown:?}");
}
