//! The commands in the README and the docs.
//!
//! A block of `sh` is run line by line, and each line must succeed. A block of `console` also shows what is printed, after
//! each line that begins with `$ `; an ellipsis stands for any text. A command that serves runs until the end of its
//! block. `not-run` behind the language leaves a block out.

use clap::Parser as _;
use proxy::Args;

use crate::pages::{self, Block, Page};
use crate::stage::{Stage, Theatre};

/// A command, and what it prints if the page shows it.
#[derive(Debug, PartialEq)]
struct Step {
    line: String,
    printed: Option<String>,
}

/// The commands of a block.
fn steps(block: &Block) -> Vec<Step> {
    let text = block.text.replace("\\\n", " ");
    if block.language == "sh" {
        let is_command = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let step = |line: &str| Step { line: line.to_owned(), printed: None };
        return text.lines().filter(is_command).map(step).collect();
    }
    let shown = text.trim_end().strip_prefix("$ ").unwrap_or_else(|| panic!("{}: no command", block.place));
    let step = |shown: &str| {
        let (line, printed) = shown.split_once('\n').unwrap_or((shown, ""));
        Step { line: line.to_owned(), printed: Some(printed.to_owned()) }
    };
    shown.split("\n$ ").map(step).collect()
}

/// Whether a command is the proxy that serves.
fn serves(line: &str) -> bool {
    let words = line.split_whitespace().map(|word| word.trim_matches(['\'', '"']));
    let args = || Args::try_parse_from(words.take_while(|word| *word != "#"));
    line.starts_with("proxy ") && args().is_ok_and(|args| args.command.is_none())
}

/// Whether a text is the one that is shown, in which an ellipsis stands for any text.
fn is_shown(text: &str, shown: &str) -> bool {
    let Some((start, rest)) = shown.split_once('…') else { return text == shown };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('…').unwrap_or(("", rest));
    for part in middle.split('…').filter(|part| !part.is_empty()) {
        let Some((_, after)) = text.split_once(part) else { return false };
        text = after;
    }
    text.ends_with(end)
}

/// A text that is shown, with an ellipsis for the seconds of each `ttl`: on a busy machine some have passed.
fn with_any_ttl(shown: &str) -> String {
    let mut parts = shown.split("ttl=");
    let start = parts.next().unwrap_or_default().to_owned();
    let rest =
        parts.map(|part| format!("ttl=…{}", part.trim_start_matches(|one: char| one.is_ascii_digit())));
    start + &rest.collect::<String>()
}

/// Runs a block, and tells what is not as the page says.
fn faults(block: &Block, theatre: &Theatre) -> Vec<String> {
    let steps = steps(block);
    let is_served = steps.iter().any(|step| serves(&step.line));
    let mut stage = if is_served { theatre.stage() } else { theatre.stage().with_proxy() };
    steps
        .iter()
        .filter_map(|step| fault(step, &mut stage))
        .map(|fault| format!("{}: {fault}", block.place))
        .collect()
}

fn fault(Step { line, printed }: &Step, stage: &mut Stage<'_>) -> Option<String> {
    let (text, succeeded) = match serves(line) {
        true => {
            let text = stage.serve(line, printed.as_deref().unwrap_or_default().lines().count());
            let serves = text.contains("listening on");
            (text, serves)
        }
        false => stage.run(line),
    };
    let is_right = printed.as_deref().map_or(succeeded, |shown| is_shown(&text, &with_any_ttl(shown)));
    (!is_right).then(|| format!("{line}\nprinted\n{text}"))
}

#[test]
fn each_command_of_the_docs_does_what_the_page_says() {
    let theatre = Theatre::open();
    let blocks: Vec<_> = pages::all().iter().flat_map(Page::blocks).collect();
    let runs = |block: &&Block| ["sh", "console"].contains(&block.language.as_str()) && !block.is_left_out;
    let run: Vec<_> = blocks.iter().filter(runs).collect();
    assert!(run.len() > 10, "{run:#?}");
    let faults: Vec<_> = run.iter().flat_map(|block| faults(block, &theatre)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

#[test]
fn only_the_proxy_without_a_command_serves() {
    assert!(serves("proxy --store memory --cache '/blog/*=300'   # in one terminal"));
    assert!(!serves("proxy --store memory check") && !serves("proxy --nonsense") && !serves("curl proxy"));
}

#[test]
fn an_ellipsis_stands_for_any_text() {
    assert!(is_shown("a 12 b 34 c", "a … b … c") && is_shown("a\nb\nc", "a\n…") && is_shown("a", "a"));
    assert!(is_shown("hit; ttl=299\nb", &with_any_ttl("hit; ttl=300\nb")));
    assert!(!is_shown("a 12 b", "a … c") && !is_shown("a b", "a") && !is_shown("b a", "…x…a"));
}
