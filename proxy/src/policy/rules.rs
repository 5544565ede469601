//! Finds the rule for a path: an index over all rules of a proxy.

use std::collections::HashMap;
use std::sync::Arc;

use hyper::Method;
use hyper::header::UPGRADE;

use super::http::Wishes;
use super::rule::{Rule, spellings};
use crate::pattern::Pattern;
use crate::request::{Changes, Question};

/// Whether a request is looked up.
#[derive(Debug)]
pub(crate) enum Disposition<'a> {
    /// Yes: by this rule, and with these wishes of the client.
    Lookup(&'a Arc<Rule>, Wishes),
    Pass(Pass),
}

/// Why a request is neither looked up nor stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pass {
    /// Only GET and HEAD have pages, and QUERY if the rule says so.
    Method,
    /// No rule matches the path.
    Rule,
    /// The rule of the path is off.
    Off,
    /// The client asks that nothing of its request be stored.
    NoStore,
    /// The client asks for another protocol, which the rule allows.
    Upgrade,
    /// The content of a QUERY is too long, or there is no room to read it before the decision.
    Content,
}

/// The rules, in order. The first that matches a path counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    all: Vec<Arc<Rule>>,
    /// The first rule of each exact path.
    exact: HashMap<String, usize>,
    /// Sorted by their texts.
    prefixes: Vec<Prefix>,
    /// Whether any rule normalises requests. If none does, requests pay nothing for it.
    any_normalises: bool,
}

#[derive(Clone, Debug)]
struct Prefix {
    text: String,
    /// The first rule with this prefix, or with a prefix of this prefix.
    first: usize,
    /// The index of the longest other prefix that this one begins with.
    parent: Option<usize>,
}

impl Rules {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        let mut exact = HashMap::new();
        let mut prefixes = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            for text in spellings(&rule.path) {
                match rule.path {
                    Pattern::Exact(_) => drop(exact.entry(text).or_insert(index)),
                    Pattern::Prefix(_) => prefixes.push((text, index)),
                }
            }
        }
        let any_normalises = rules.iter().any(|rule| !rule.normaliser.is_off());
        let all = rules.into_iter().map(Arc::new).collect();
        Self { all, exact, prefixes: nested(prefixes), any_normalises }
    }

    /// The disposition of a request: the first rule whose path matches decides, then the method.
    pub(crate) fn disposition(&self, question: &Question<'_>) -> Disposition<'_> {
        match self.find(question.path) {
            None => Disposition::Pass(Pass::Rule),
            Some(rule) if rule.is_off => Disposition::Pass(Pass::Off),
            Some(rule) if !rule.caches(question.method) => Disposition::Pass(Pass::Method),
            Some(rule) if rule.upgrade && question.lines.get(&UPGRADE).is_some() => {
                Disposition::Pass(Pass::Upgrade)
            }
            Some(_) if *question.method == Method::QUERY && question.content.is_none() => {
                Disposition::Pass(Pass::Content)
            }
            Some(rule) => match rule.wishes(question.lines) {
                // With `only-if-cached` the client asks for a stored page, so nothing of the request would be stored.
                wishes if wishes.no_store && !wishes.only_if_cached => Disposition::Pass(Pass::NoStore),
                wishes => Disposition::Lookup(rule, wishes),
            },
        }
    }

    /// Whether the content of a request, once it is read, selects its page.
    pub(crate) fn reads_content(&self, question: &Question<'_>) -> bool {
        matches!(self.disposition(question), Disposition::Pass(Pass::Content))
    }

    /// The changes that make a request normal. A request that passes is left as it is.
    pub(crate) fn changes(&self, question: &Question<'_>) -> Option<Changes> {
        if !self.any_normalises {
            return None;
        }
        match self.disposition(question) {
            Disposition::Lookup(rule, _) => rule.normaliser.changes(question),
            Disposition::Pass(_) => None,
        }
    }

    /// The first rule that matches a path.
    pub(crate) fn find(&self, path: &str) -> Option<&Arc<Rule>> {
        self.all.get(self.position(path)?)
    }

    /// The index in [`all`](Self::all) of the first rule that matches a path.
    pub(crate) fn position(&self, path: &str) -> Option<usize> {
        let exact = self.exact.get(path).copied();
        [exact, self.first_prefix(path)].into_iter().flatten().min()
    }

    /// The rules, in order.
    pub(crate) fn all(&self) -> &[Arc<Rule>] {
        &self.all
    }

    fn first_prefix(&self, path: &str) -> Option<usize> {
        // The longest prefix of the path is the last text that does not sort after the path, or one of its parents.
        let last = self.prefixes.partition_point(|prefix| prefix.text.as_str() <= path).checked_sub(1)?;
        let parents = std::iter::successors(Some(last), |&at| self.prefixes[at].parent);
        parents
            .map(|at| &self.prefixes[at])
            .find(|prefix| path.starts_with(&prefix.text))
            .map(|prefix| prefix.first)
    }
}

fn nested(mut prefixes: Vec<(String, usize)>) -> Vec<Prefix> {
    prefixes.sort();
    // Of equal prefixes, the first rule counts.
    prefixes.dedup_by(|(later, _), (earlier, _)| later == earlier);
    let mut nested: Vec<Prefix> = Vec::with_capacity(prefixes.len());
    for (text, index) in prefixes {
        let before = nested.len().checked_sub(1);
        let parent = std::iter::successors(before, |&at| nested[at].parent)
            .find(|&at| text.starts_with(&nested[at].text));
        let first = parent.map_or(index, |parent| nested[parent].first.min(index));
        nested.push(Prefix { text, first, parent });
    }
    nested
}

impl Pass {
    /// The fixed name in `Cache-Status` and in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Rule => "no-rule",
            Self::Off => "rule-off",
            Self::NoStore => "no-store",
            Self::Upgrade => "upgrade",
            Self::Content => "content",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(paths: &[String]) -> Vec<Rule> {
        paths.iter().enumerate().map(|(index, path)| Rule::new(path, index as u64).unwrap()).collect()
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let paths = ["/a/b", "/a/*", "/a/b/*", "/*", "/a/b", "/c/*", "/c/d"].map(str::to_owned);
        let rules = Rules::new(rules(&paths));
        for (path, expected) in [
            ("/a/b", Some(0)),
            ("/a/", Some(1)),
            ("/a/b/c", Some(1)),
            ("/b", Some(3)),
            ("/c/d", Some(3)),
            ("c", None),
        ] {
            let found = rules.find(path).map(|rule| rule.timeout.as_secs());
            assert_eq!(found, expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_walk_through_all_rules_finds(
            paths in prop::collection::vec("/[ab/]{0,5}[*]?", 0..12),
            path in "/[ab/]{0,7}",
        ) {
            let all = rules(&paths);
            let walked = all.iter().find(|rule| rule.matches(&path)).cloned();
            let index = Rules::new(all);
            prop_assert_eq!(index.find(&path).map(|rule| (**rule).clone()), walked);
        }
    }
}
