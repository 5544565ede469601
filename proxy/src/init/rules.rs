//! The rules for the views of a project.

use std::collections::BTreeMap;

use super::project::{CachePage, ProjectView};

/// A rule in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft {
    /// The path as a rule writes it: a trailing `*` stands for any end.
    pub(super) path: String,
    pub(super) kind: RuleKind,
    /// The views behind this path.
    pub(super) views: Vec<String>,
}

/// The settings of a rule in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RuleKind {
    /// A view with `cache_page`.
    Cached(CachePage),
    /// A view without `cache_page` whose path lies below that of a view that has it.
    Off,
    /// A view that could have one. Its rule is a comment.
    Proposed,
    /// A view under `cache_page` that no rule can tell from another view, and why. Its rule is a comment.
    Unclear(CachePage, String),
}

/// The rules for views, in the order in which they match. More specific paths come first.
pub(super) fn rules(views: &[ProjectView]) -> Vec<Draft> {
    let mut drafts: BTreeMap<String, Draft> = BTreeMap::new();
    let wanted = |view: &&ProjectView| view.cached.as_ref().is_some_and(|page| page.timeout > 0.0);
    for view in views.iter().filter(wanted) {
        let Some(page) = &view.cached else { continue };
        let kind = match rival(view, views) {
            None => RuleKind::Cached(page.clone()),
            Some(rival) => {
                RuleKind::Unclear(page.clone(), format!("{} has paths that begin alike", rival.view))
            }
        };
        add(&mut drafts, view, kind);
    }
    let prefixes: Vec<_> = drafts
        .values()
        .filter(|draft| matches!(draft.kind, RuleKind::Cached(_)))
        .filter_map(|draft| draft.path.strip_suffix('*').map(str::to_owned))
        .collect();
    for view in views.iter().filter(|view| view.cached.is_none()) {
        if prefixes.iter().any(|prefix| view.path.starts_with(prefix)) {
            add(&mut drafts, view, RuleKind::Off);
        } else if view.cacheable {
            add(&mut drafts, view, RuleKind::Proposed);
        }
    }
    let mut drafts: Vec<_> = drafts.into_values().collect();
    drafts.sort_by_key(|draft| (draft.path.ends_with('*'), std::cmp::Reverse(draft.path.len())));
    drafts
}

/// A view whose paths begin like those of this view, but that is stored in another way or not at all.
fn rival<'a>(view: &ProjectView, views: &'a [ProjectView]) -> Option<&'a ProjectView> {
    let rivals = |other: &&ProjectView| {
        other.path == view.path && other.exact == view.exact && other.cached != view.cached
    };
    views.iter().find(rivals)
}

/// Adds a view to the rule of its path. The first rule of a path stays.
fn add(drafts: &mut BTreeMap<String, Draft>, view: &ProjectView, kind: RuleKind) {
    let path = format!("{}{}", view.path, if view.exact { "" } else { "*" });
    let draft = drafts.entry(path.clone()).or_insert_with(|| Draft { path, kind, views: Vec::new() });
    if !draft.views.contains(&view.view) {
        draft.views.push(view.view.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(path: &str, timeout: Option<f64>, cacheable: bool) -> ProjectView {
        let cached = timeout.map(|timeout| CachePage {
            timeout,
            key_prefix: String::new(),
            cache: "default".to_owned(),
        });
        let (path, exact) = match path.strip_suffix('*') {
            Some(start) => (start.to_owned(), false),
            None => (path.to_owned(), true),
        };
        ProjectView { view: format!("views.{path}"), path, exact, cached, cacheable }
    }

    fn texts(views: &[ProjectView]) -> Vec<String> {
        let text = |draft: Draft| match draft.kind {
            RuleKind::Cached(page) => format!("{} {}", draft.path, page.timeout),
            RuleKind::Off => format!("{} off", draft.path),
            RuleKind::Proposed => format!("{} proposed", draft.path),
            RuleKind::Unclear(..) => format!("{} unclear", draft.path),
        };
        rules(views).into_iter().map(text).collect()
    }

    #[test]
    fn a_view_with_cache_page_has_a_rule_and_others_are_proposed() {
        let views = [
            view("/a/", Some(60.0), true),
            view("/b/", None, true),
            view("/login/", None, false),
            view("/never/", Some(0.0), true),
        ];
        assert_eq!(texts(&views), ["/a/ 60", "/b/ proposed"]);
    }

    #[test]
    fn what_is_not_stored_below_a_stored_path_is_off_and_matches_first() {
        let views = [
            view("/homes/*", Some(60.0), true),
            view("/homes/new/", None, false),
            view("/homes/my/*", None, true),
            view("/homes/map/", Some(5.0), true),
            view("/*", None, false),
        ];
        assert_eq!(texts(&views), ["/homes/map/ 5", "/homes/new/ off", "/homes/my/* off", "/homes/* 60"]);
    }

    #[test]
    fn a_rule_that_would_match_another_view_is_a_comment() {
        let views = [view("/homes/*", Some(60.0), true), view("/homes/*", None, false)];
        assert_eq!(texts(&views), ["/homes/* unclear"]);
        let views = [view("/homes/*", Some(60.0), true), view("/homes/*", Some(5.0), false)];
        assert_eq!(texts(&views), ["/homes/* unclear"]);
    }
}
