//! The rules that make purges exact, each with the code that keeps it.
//!
//! `CACHEPAGE_TEST_RULES=1 cargo test --test purge_rules -- --nocapture` builds a copy of the sources in which each rule can be
//! switched off, and shows that a test finds a stale page without it: the checker (`scenes/purge_checker.rs`), or the one of
//! the moment that the rule is for. CACHEPAGE_TEST_RULES may also have parts of the rules' names,
//! separated by commas.
#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// A rule, and how a copy of the sources can do without it.
struct Rule {
    name: &'static str,
    /// The test that finds a stale page without the rule: of the checker, or of a moment that the checker meets seldom.
    found_by: &'static str,
    file: &'static str,
    kept_by: &'static str,
    /// The same code. `IS_OFF` says whether the rule is switched off.
    breakable: &'static str,
}

const CHECKER: &str = "purge_checker::nothing_is_served_that_was_purged_whatever_fails";
const HTTP: &str = "purge_checker::nothing_is_renewed_that_was_purged_whatever_fails";
const FOLLOWED: &str = "purge_checker::nothing_is_served_that_a_commit_has_changed_whatever_fails";
const CONFIRMED: &str = "purge_checker::moments::a_page_that_is_confirmed_while_it_is_purged_stays_purged";
const LATE: &str = "purge_checker::moments::a_page_that_is_confirmed_late_takes_no_place_of_a_newer_one";
const FAILOVER: &str =
    "purge_checker::moments::a_fill_that_a_failover_overtakes_is_found_by_purges_of_the_new_primary";
const HELD_UP: &str =
    "purge_checker::moments::what_redis_has_said_before_a_purge_is_no_news_when_it_arrives_late";
const FOLLOWERS: &str = "purge::near::followers_from_after_a_purge_ask_anew";

const RULES: &[Rule] = &[
    Rule {
        name: "a page has the position from before the origin was asked",
        found_by: CHECKER,
        file: "way/flight.rs",
        kept_by: "Admission::Admit(terms) => Ok(self.fill(fetched, terms, received, (stamp, known)).await)",
        breakable: "Admission::Admit(terms) => {
            let stamp = if IS_OFF { self.proxy.stamp(&self.question()) } else { stamp };
            Ok(self.fill(fetched, terms, received, (stamp, known)).await)
        }",
    },
    Rule {
        name: "so does a page that a 304 has confirmed",
        found_by: CONFIRMED,
        file: "way/flight.rs",
        kept_by: "return Ok(Box::pin(self.renew(confirmed, (stamp, known))).await);",
        breakable: "let stamp = if IS_OFF { self.proxy.stamp(&self.question()) } else { stamp };
            return Ok(Box::pin(self.renew(confirmed, (stamp, known))).await);",
    },
    Rule {
        name: "a confirmed page takes only the place of its old version",
        found_by: LATE,
        file: "way/renewal.rs",
        kept_by: "let replaced = store.replace(&key, start, value, notes.keep).await;",
        breakable: "let replaced = match IS_OFF {
            true => store.put(vec![crate::store::Write::Set(key.clone(), value)], notes.keep).await.map(|()| true),
            false => store.replace(&key, start, value, notes.keep).await,
        };",
    },
    Rule {
        name: "pages are compared only while it is certain that the log is known",
        found_by: CHECKER,
        file: "store/log_copy.rs",
        kept_by: "self.certainty.ask(NodeNumber::default(), now) || self.is_off()",
        breakable: "IS_OFF || self.certainty.ask(NodeNumber::default(), now) || self.is_off()",
    },
    Rule {
        name: "the certainty counts from when the log was asked for",
        found_by: HELD_UP,
        file: "store/redis/tracking.rs",
        kept_by: "sent + CERTAIN_FOR",
        breakable: "if IS_OFF { Instant::now() + CERTAIN_FOR * 4 } else { sent + CERTAIN_FOR }",
    },
    Rule {
        name: "a page is compared again when the log has grown",
        found_by: CHECKER,
        file: "store/log_copy.rs",
        kept_by: "if valid_at.load(Ordering::Relaxed) == generation {",
        breakable: "let valid = valid_at.load(Ordering::Relaxed);
        if valid == generation || (IS_OFF && valid > 0) {",
    },
    Rule {
        name: "a near page is compared with the log",
        found_by: CHECKER,
        file: "way/lookup.rs",
        kept_by: "Verdict::Purged | Verdict::Ahead => return None,",
        breakable: "Verdict::Purged | Verdict::Ahead if IS_OFF => None,
                Verdict::Purged | Verdict::Ahead => return None,",
    },
    Rule {
        name: "a follower from after a purge takes no page from before it",
        found_by: FOLLOWERS,
        file: "way/flight.rs",
        kept_by: "Ok(_) if self.is_purged(&shared, known) ||",
        breakable: "Ok(_) if (!IS_OFF && self.is_purged(&shared, known)) ||",
    },
    Rule {
        name: "a log that was lost is noticed",
        found_by: CHECKER,
        file: "store/redis/log.rs",
        kept_by: "if !is_continued(&entries, last) {",
        breakable: "if IS_OFF && entries.first().is_none_or(|(id, _)| *id != last) {
                self.copy.add(&entries, now());
                return Ok(());
            }
            if !is_continued(&entries, last) {",
    },
    Rule {
        name: "the epoch of a page is still in the log",
        found_by: CHECKER,
        file: "store/marks.rs",
        kept_by: "return Err(if position.id > self.last { Verdict::Ahead } else { Verdict::Purged });",
        breakable: "return match IS_OFF {
                true => Ok(()),
                false => Err(if position.id > self.last { Verdict::Ahead } else { Verdict::Purged }),
            };",
    },
    Rule {
        name: "another primary begins a new epoch",
        found_by: FAILOVER,
        file: "store/redis/log.rs",
        kept_by: "epoch.filter(|epoch| epoch.replication == replication)",
        breakable: "epoch.filter(|epoch| IS_OFF || epoch.replication == replication)",
    },
    Rule {
        name: "a page from behind the end of an earlier epoch is a miss",
        found_by: CHECKER,
        file: "store/marks.rs",
        kept_by: "Some(next) if position.id > next.before =>",
        breakable: "Some(next) if !IS_OFF && position.id > next.before =>",
    },
    Rule {
        name: "what a failover has lost is appended again",
        found_by: CHECKER,
        file: "store/redis/log.rs",
        kept_by: "let missed = self.copy.missed(replication);",
        breakable: "let missed = if IS_OFF { Vec::new() } else { self.copy.missed(replication) };",
    },
    Rule {
        name: "a page from before the first entry of the log is a miss",
        found_by: CHECKER,
        file: "store/marks.rs",
        kept_by: "if id < self.first {",
        breakable: "if !IS_OFF && id < self.first {",
    },
    Rule {
        name: "a page without a position is a miss",
        found_by: CHECKER,
        file: "store/log_copy.rs",
        kept_by: "None => Verdict::Purged,",
        breakable: "None if IS_OFF => Verdict::Valid,
            None => Verdict::Purged,",
    },
    Rule {
        name: "a page is found by each of its names",
        found_by: CHECKER,
        file: "store/marks.rs",
        kept_by: "self.mark_of(self.hash(kind, value))",
        breakable: "if IS_OFF && kind == TargetKind::Prefix { return Mark::default(); }
        self.mark_of(self.hash(kind, value))",
    },
    Rule {
        name: "a purge of everything finds each page",
        found_by: CHECKER,
        file: "store/marks.rs",
        kept_by: ".fold(self.all, Mark::and)",
        breakable: ".fold(if IS_OFF { Mark::default() } else { self.all }, Mark::and)",
    },
    Rule {
        name: "a soft purge ends a page",
        found_by: CHECKER,
        file: "store/marks.rs",
        kept_by: "() if mark.soft > since =>",
        breakable: "() if !IS_OFF && mark.soft > since =>",
    },
    Rule {
        name: "a soft purge has happened, whatever the clocks say",
        found_by: HTTP,
        file: "policy/judge.rs",
        kept_by: "end.min(signed(ended)).min(now)",
        breakable: "if IS_OFF { signed(ended) } else { end.min(signed(ended)).min(now) }",
    },
    Rule {
        name: "what a database notifies is purged",
        found_by: FOLLOWED,
        file: "way/follow.rs",
        kept_by: "for purge in proxy.notified_purges(&notified, follow) {",
        breakable: "for purge in proxy.notified_purges(&notified, follow).into_iter().filter(|_| !IS_OFF) {",
    },
    Rule {
        name: "everything is purged when a database is heard again",
        found_by: FOLLOWED,
        file: "way/follow.rs",
        kept_by: "if purges_all {",
        breakable: "if purges_all && !IS_OFF {",
    },
];

impl Rule {
    /// Makes the rule breakable in a copy of the sources.
    fn prepare(&self, sources: &Path) {
        let file = sources.join(self.file);
        let text = fs::read_to_string(&file).unwrap();
        let is_off = format!("crate::is_off({:?})", self.name);
        fs::write(&file, text.replace(self.kept_by, &self.breakable.replace("IS_OFF", &is_off))).unwrap();
    }
}

#[test]
fn the_code_that_keeps_each_rule_is_there_once() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for Rule { name, file, kept_by, .. } in RULES {
        let text = fs::read_to_string(sources.join(file)).unwrap();
        assert_eq!(text.matches(kept_by).count(), 1, "{name}: {kept_by} in {file}");
    }
}

/// Said by the tests of moments that find one.
const OLD: &str = "a page from before a purge is served";

/// Switches off the rule that the environment names.
const SWITCH: &str = "
pub(crate) fn is_off(rule: &str) -> bool {
    static OFF: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    OFF.get_or_init(|| std::env::var(\"RULE\").unwrap_or_default()) == rule
}
";

#[test]
fn without_any_one_rule_a_test_finds_a_stale_page() {
    let Ok(wanted) = std::env::var("CACHEPAGE_TEST_RULES") else { return };
    let folder = tempfile::tempdir().unwrap();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let copied = "git ls-files -z | xargs -0 cp --parents --target-directory \"$COPY\"";
    let mut copy = Command::new("sh");
    copy.args(["-c", copied]).current_dir(workspace).env("COPY", folder.path());
    assert!(copy.status().unwrap().success());
    let sources = folder.path().join("proxy/src");
    RULES.iter().for_each(|rule| rule.prepare(&sources));
    let library = fs::read_to_string(sources.join("lib.rs")).unwrap();
    fs::write(sources.join("lib.rs"), library + SWITCH).unwrap();
    let mut missed = Vec::new();
    let is_wanted = |rule: &&Rule| wanted == "1" || wanted.split(',').any(|part| rule.name.contains(part));
    for rule in RULES.iter().filter(is_wanted) {
        match found(rule, folder.path()) {
            Ok(how) => println!("{}: found {how}", rule.name),
            Err(said) => missed.push(format!("{}: {said}", rule.name)),
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// How a test finds a stale page without a rule; else what it says.
fn found(rule: &Rule, copy: &Path) -> Result<String, String> {
    let mut test = Command::new(env!("CARGO"));
    test.args(["test", "--quiet", "--offline", "--workspace", "--test", "scenes", rule.found_by])
        .current_dir(copy)
        // Not that of the workspace, which would take these for its own.
        .env("CARGO_TARGET_DIR", copy.join("target"))
        .env("CACHEPAGE_TEST_PURGE_READS", "100000")
        .env("RULE", rule.name);
    let Output { stdout, stderr, .. } = test.output().unwrap();
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    let reads = said.lines().find_map(|line| line.split_once(" reads: [")?.0.parse::<u64>().ok());
    match reads {
        Some(reads) => Ok(format!("after {reads} reads")),
        None if said.contains(OLD) => Ok("in its moment".to_owned()),
        None => Err(said),
    }
}
