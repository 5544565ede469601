//! The rules: those of the flags, followed by those of the file.

use super::leaves::Leaf;
use super::normaliser::normaliser;
use super::parse;
use super::settings::{Settings, Table};
use crate::policy::{CachePolicy, HttpRules, Rule};

/// The seconds of a flag that names none.
const SECONDS: &str = "60";

/// The name of the tables.
const ARRAY: &str = "cache_page";

/// A rule and its place.
type Placed = (String, Rule);

/// The rules of the flag or of its variable, as texts.
pub(super) struct Flag<'a> {
    pub(super) texts: &'a [String],
    /// `flag` or `environment`.
    pub(super) from: &'static str,
}

/// Parses all rules; `None` if there is a fault, which is then in the list. A rule that is never used is a warning.
pub(super) fn rules(
    flags: &Flag<'_>,
    tables: Vec<Table>,
    faults: &mut Vec<String>,
    warnings: &mut Vec<String>,
    leaves: &mut Vec<Leaf>,
) -> Option<Vec<Rule>> {
    let before = faults.len();
    let mut rules = of_flags(flags, faults, leaves);
    refuse_repeated(&rules, faults);
    let first = rules.len();
    let of_file: Vec<_> = (first..)
        .zip(tables)
        .filter_map(|(index, table)| rule(Settings::new(table, faults).of_array(ARRAY, index), leaves))
        .collect();
    refuse_repeated(&of_file, faults);
    rules.extend(of_file);
    warnings.extend(hidden(&rules));
    (faults.len() == before).then(|| rules.into_iter().map(|(_, rule)| rule).collect())
}

/// The rules of the flags or of the variable, separated by blanks or commas.
fn of_flags(flags: &Flag<'_>, faults: &mut Vec<String>, leaves: &mut Vec<Leaf>) -> Vec<Placed> {
    let mut rules = Vec::new();
    let texts = flags.texts.iter().flat_map(|text| text.split(|c: char| c == ',' || c.is_whitespace()));
    for text in texts.filter(|text| !text.is_empty()) {
        let place = format!("--cache (PROXY_CACHE) {text}");
        match flag(text) {
            Ok(rule) => {
                leaves.extend(leaves_of(&rule, rules.len(), &place, flags.from));
                rules.push((place, rule));
            }
            Err(fault) => faults.push(format!("{place}: {fault}")),
        }
    }
    rules
}

/// `PATH`, `PATH=SECONDS` or `PATH=off`; the path itself may contain `=`.
fn flag(text: &str) -> Result<Rule, String> {
    let (path, timeout) = match text.rsplit_once('=') {
        Some((path, timeout)) if !timeout.contains('/') => (path, timeout),
        _ => (text, SECONDS),
    };
    if !path.starts_with('/') {
        return Err(
            "a path must begin with /; blanks and commas stand between rules, and a path that has one is a \
                    [[cache_page]] of the file"
                .to_owned(),
        );
    }
    if path
        .split_once(';')
        .and_then(|(rule, _)| rule.rsplit_once('='))
        .is_some_and(|(_, time)| parse::timeout(time).is_ok())
    {
        return Err("a semicolon is a part of the path; blanks and commas stand between rules".to_owned());
    }
    let rule = match parse::timeout(timeout)? {
        Some(timeout) => Rule::new(path, timeout.as_secs()),
        None => Rule::off(path),
    };
    rule.map_err(str::to_owned)
}

/// The settings of a rule that comes from the flags.
fn leaves_of(rule: &Rule, index: usize, place: &str, from: &str) -> [Leaf; 2] {
    let timeout = if rule.is_off { "off".into() } else { rule.timeout.as_secs().into() };
    [("path", rule.path.to_string().into()), ("timeout", timeout)].map(|(name, value)| Leaf {
        table: Some((ARRAY, index)),
        name: name.to_owned(),
        value,
        from: from.to_owned(),
        place: place.to_owned(),
    })
}

/// One `[[cache_page]]`.
fn rule(mut settings: Settings<'_>, leaves: &mut Vec<Leaf>) -> Option<Placed> {
    let place = settings.start().to_owned();
    let path = settings.take("path", None, "", |path| match path {
        "" => Err("missing: a path like /list/ or /api/*".to_owned()),
        path => Rule::new(path, 0).map_err(str::to_owned),
    });
    let rule = match settings.take("timeout", None, SECONDS, parse::timeout) {
        Some(None) => {
            leaves.extend(settings.refuse_rest("has no effect with timeout = \"off\""));
            Rule { is_off: true, ..path? }
        }
        timeout => {
            // The options come first, so that all their faults are found.
            let rule = options(path, settings, leaves);
            Rule { timeout: timeout.flatten()?, ..rule? }
        }
    };
    Some((place, rule))
}

/// The settings of a rule besides its path and timeout.
fn options(path: Option<Rule>, mut settings: Settings<'_>, leaves: &mut Vec<Leaf>) -> Option<Rule> {
    let key_prefix = settings.take("key_prefix", None, "", parse::key_prefix);
    let authorization = settings.take("authorization", None, "pass", parse::authorization);
    let caches_query = settings.take("methods", None, "GET", parse::methods);
    let set_cookie = settings.take("set_cookie", None, "pass", parse::set_cookie);
    let coalesce = settings.take("coalesce", None, "process", parse::coalesce);
    let grace = settings.take("grace", None, "0", parse::seconds);
    let stale_if_error = settings.take("stale_if_error", None, "0", parse::seconds);
    let early_refresh = settings.take("early_refresh", None, "0", parse::factor);
    let normaliser = normaliser(&mut settings);
    let upgrade = settings.take("upgrade", None, "false", parse::truth);
    let invalidate = settings.take("invalidate", None, "false", parse::truth);
    let refresh_on_purge = settings.take("refresh_on_purge", None, "false", parse::truth);
    let policy = policy(&mut settings);
    if policy == Some(CachePolicy::Django) {
        for name in HTTP_SETTINGS {
            settings.refuse(name, "has an effect only with policy = \"http\"");
        }
    }
    leaves.extend(settings.finish());
    let (normaliser, compress) = normaliser?;
    Some(Rule {
        key_prefix: key_prefix?,
        authorization: authorization?,
        caches_query: caches_query?,
        set_cookie: set_cookie?,
        coalesce: coalesce?,
        grace: grace?,
        stale_if_error: stale_if_error?,
        early_refresh: early_refresh?,
        normaliser,
        compress,
        invalidate: invalidate?,
        refresh_on_purge: refresh_on_purge?,
        policy: policy?,
        upgrade: upgrade?,
        ..path?
    })
}

/// The settings that only `policy = "http"` has.
const HTTP_SETTINGS: [&str; 3] = ["default_timeout", "keep", "respect_client"];

fn policy(settings: &mut Settings<'_>) -> Option<CachePolicy> {
    let is_http = settings.take("policy", None, "django", parse::is_http)?;
    if !is_http {
        return Some(CachePolicy::Django);
    }
    let [default_timeout, keep, respect_client] = HTTP_SETTINGS;
    let default_timeout = settings.take(default_timeout, None, "0", parse::seconds);
    let keep = settings.take(keep, None, "60", parse::seconds);
    let respect_client = settings.take(respect_client, None, "true", parse::truth);
    Some(CachePolicy::Http(HttpRules {
        default_timeout: default_timeout?,
        keep: keep?,
        respect_client: respect_client?,
    }))
}

/// If one place has two rules for one path, one of them is a mistake.
fn refuse_repeated(rules: &[Placed], faults: &mut Vec<String>) {
    for (index, (place, rule)) in rules.iter().enumerate() {
        if rules[..index].iter().any(|(_, earlier)| earlier.path == rule.path) {
            faults
                .push(format!("{place}: {} has a rule already, and the first counts: remove one", rule.path));
        }
    }
}

/// A warning for each rule whose paths an earlier rule takes.
fn hidden(rules: &[Placed]) -> impl Iterator<Item = String> {
    rules.iter().enumerate().filter_map(|(index, (place, rule))| {
        let (_, earlier) = rules[..index].iter().find(|(_, earlier)| earlier.hides(rule))?;
        Some(format!(
            "{place}: the rule {rule} is never used: {earlier} comes before it and matches all its paths"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::super::settings::File;
    use super::*;

    /// The rules as texts, and the warnings; or the faults.
    fn parsed(flags: &[&str], file: &str) -> Result<(Vec<String>, Vec<String>), Vec<String>> {
        let (mut faults, mut warnings) = (Vec::new(), Vec::new());
        let flags: Vec<_> = flags.iter().map(|&text| text.to_owned()).collect();
        let tables = File::parse("f", file, &mut faults).rules;
        let flags = Flag { texts: &flags, from: "flag" };
        match rules(&flags, tables, &mut faults, &mut warnings, &mut Vec::new()) {
            Some(rules) => Ok((rules.iter().map(Rule::to_string).collect(), warnings)),
            None => Err(faults),
        }
    }

    #[test]
    fn blanks_and_commas_stand_between_the_rules_of_flags() {
        for flags in
            [&["/a/=60,/b/*=30"][..], &["/a/ /b/*=30"], &["/a/=60,\n /b/*=30,"], &["/a/", "", "/b/*=30"]]
        {
            assert_eq!(parsed(flags, "").unwrap().0, ["/a/, 60 s", "/b/*, 30 s"], "{flags:?}");
        }
        assert_eq!(parsed(&["/a=/b;c=d/=5 /c/=off"], "").unwrap().0, ["/a=/b;c=d/, 5 s", "/c/, off"]);
    }

    #[test]
    fn each_bad_rule_of_the_flags_is_a_fault_that_names_it() {
        let bad = [
            ("a/=60", "must begin with /"),
            ("/a/=60;/b/*=30", "a semicolon is a part of the path"),
            ("/a/=60s", "write the seconds, 60, or off"),
            ("/a/=1h", "write the seconds, 3600, or off"),
            ("/a/=-1", "not a number of seconds"),
            ("/a/=1.5", "not a number of seconds"),
            ("/a/=", "not a number of seconds"),
            ("/a/=OFF", "not a number of seconds"),
            ("/a/=99999999999999999999", "not a number of seconds"),
            ("/a/=40000000", "more than a year"),
            ("/a/?b=1", "without a query"),
        ];
        let said = parsed(&[&bad.map(|(text, _)| text).join(",")], "").unwrap_err();
        assert_eq!(said.len(), bad.len(), "{said:#?}");
        for (said, (text, fault)) in said.iter().zip(bad) {
            assert!(
                said.starts_with(&format!("--cache (PROXY_CACHE) {text}: ")) && said.contains(fault),
                "{said}"
            );
        }
    }

    #[test]
    fn a_path_has_one_rule() {
        let said = parsed(
            &["/a/ /b/=5 /a/=5"],
            "[[cache_page]]\npath = \"/c/*\"\n[[cache_page]]\npath = \"/c/*\"\ntimeout = \"off\"\n",
        );
        let why = "has a rule already, and the first counts: remove one";
        let expected = [format!("--cache (PROXY_CACHE) /a/=5: /a/ {why}"), format!("f:3: /c/* {why}")];
        assert_eq!(said.unwrap_err(), expected);
    }

    #[test]
    fn a_rule_that_is_never_used_is_a_warning() {
        let (_, warnings) = parsed(&["/a/*", "/a/b/=off"], "[[cache_page]]\npath = \"/a/*\"\n").unwrap();
        let why = "is never used: /a/*, 60 s comes before it and matches all its paths";
        let expected = [
            format!("--cache (PROXY_CACHE) /a/b/=off: the rule /a/b/, off {why}"),
            format!("f:1: the rule /a/*, 60 s {why}"),
        ];
        assert_eq!(warnings, expected);
    }

    #[test]
    fn a_rule_is_never_used_if_an_earlier_one_has_all_its_paths_whatever_else_they_say() {
        let table = |path: &str, more: &str| format!("[[cache_page]]\npath = \"{path}\"\n{more}\n");
        for (earlier, later, is_hidden) in [
            ("/a/", table("/a/", ""), true),
            ("/a/*", table("/a/", ""), true),
            ("/a/*", table("/a/b/*", ""), true),
            ("/*", table("/a/*", ""), true),
            ("/*", table("/", ""), true),
            ("/*=off", table("/a/", ""), true),
            ("/a/", table("/a/", "methods = [\"GET\", \"QUERY\"]"), true),
            ("/a/", table("/a/*", ""), false),
            ("/a/", table("/a", ""), false),
            ("/a/b/*", table("/a/*", ""), false),
            ("/a*", table("/b*", ""), false),
        ] {
            let (_, warnings) = parsed(&[earlier], &later).unwrap();
            assert_eq!(warnings.len(), usize::from(is_hidden), "{earlier} {later}: {warnings:?}");
        }
    }

    #[test]
    fn a_rule_that_is_off_has_no_other_options() {
        let off = "[[cache_page]]\npath = \"/a/*\"\ntimeout = \"off\"\n";
        assert_eq!(parsed(&[], off).unwrap().0, ["/a/*, off"]);
        let said = parsed(&[], &format!("{off}grace = 5\ncolour = 1\n")).unwrap_err();
        let expected = ["f:5: colour: ", "f:4: grace: "]
            .map(|place| format!("{place}has no effect with timeout = \"off\""));
        assert_eq!(said, expected);
    }

    #[test]
    fn the_settings_of_http_need_its_policy() {
        let table = "[[cache_page]]\npath = \"/a/*\"\n";
        let http = format!("{table}policy = \"http\"\nkeep = 5\nrespect_client = false\n");
        assert_eq!(parsed(&[], &http).unwrap().0, ["/a/*, HTTP, at most 60 s"]);
        let said = parsed(&[], &format!("{table}policy = \"https\"\n")).unwrap_err();
        assert_eq!(said, ["f:3: policy: \"https\" is neither django nor http"]);
        let said = parsed(&[], &format!("{table}keep = 5\ndefault_timeout = 1\n")).unwrap_err();
        let expected = ["f:4: default_timeout: ", "f:3: keep: "]
            .map(|place| format!("{place}has an effect only with policy = \"http\""));
        assert_eq!(said, expected);
    }
}
