//! The file for a Django project, and notes on it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::project::{Cache, CachePage, Project};
use super::rules::{Draft, RuleKind, rules};
use super::{Drafted, toml_text};
use crate::args::Args;
use crate::key::Generation;

/// The headers that the proxy adds to hits of Django's pages by default.
const PRESET: [(&str, &str); 4] = [
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
];

/// Writes the file.
pub(super) fn draft(project: &Project, args: &Args) -> Drafted {
    let drafts = match &project.site_wide {
        Some(page) => vec![whole_site(page)],
        None => rules(&project.views),
    };
    let mut notes = Vec::new();
    let cache = cache_of(&drafts, project, &mut notes);
    let mut text = format!(
        "# Written by `proxy init` for Django {} with {}.\n# Check it with `proxy check`; docs/django.md explains it.\n\n",
        project.django, project.settings
    );
    text += &super::addresses(args);
    match cache {
        Some((_, cache)) => {
            let _ = writeln!(text, "store  = {}", toml_text(&cache.location));
            text += "keys   = \"django\"   # the proxy and Django share their pages\n\n";
            text += &django(project, cache);
        }
        None => {
            text += "keys   = \"path\"   # the proxy keeps pages of its own\n";
            notes.extend(notes_beside(project, &drafts));
        }
    }
    let shared = cache.map(|(alias, _)| alias);
    drafts.iter().for_each(|draft| text += &rule(draft, shared, &mut notes));
    let is_comment = |draft: &&Draft| why_comment(&draft.kind, shared).is_some();
    let in_comments =
        drafts.iter().filter(|draft| matches!(draft.kind, RuleKind::Proposed) || is_comment(draft)).count();
    let is_rule = |draft: &&Draft| matches!(draft.kind, RuleKind::Cached(_)) && !is_comment(draft);
    Drafted {
        text,
        rules: drafts.iter().filter(is_rule).count(),
        in_comments,
        notes,
        unseen: [project.unseen.clone(), unseen_settings(project)].concat(),
    }
}

/// The rule of a site whose middleware stores every page.
fn whole_site(page: &CachePage) -> Draft {
    let views = vec!["every view, by UpdateCacheMiddleware".to_owned()];
    Draft { path: "/*".to_owned(), kind: RuleKind::Cached(page.clone()), views }
}

/// The cache that the proxy can share: among those that the proxy can read, the one with the most rules.
fn cache_of<'a>(
    drafts: &[Draft],
    project: &'a Project,
    notes: &mut Vec<String>,
) -> Option<(&'a str, &'a Cache)> {
    let mut faults = Vec::new();
    for alias in used(drafts) {
        let Some((alias, cache)) = project.caches.get_key_value(alias) else { continue };
        match unreadable(cache, &project.django) {
            None => return Some((alias, cache)),
            Some(why) => faults.push(format!("CACHES[{alias:?}] {why}: the proxy keeps pages of its own")),
        }
    }
    notes.extend(faults);
    None
}

/// The caches of the stored views. The one with the most rules comes first.
fn used(drafts: &[Draft]) -> Vec<&str> {
    let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
    for draft in drafts {
        if let RuleKind::Cached(page) = &draft.kind {
            *rules.entry(&page.cache).or_default() += 1;
        }
    }
    let mut aliases: Vec<_> = rules.keys().copied().collect();
    aliases.sort_by_key(|alias| Reverse(rules[alias]));
    if aliases.is_empty() { vec!["default"] } else { aliases }
}

/// Why the proxy cannot read a cache, if it cannot.
fn unreadable(cache: &Cache, django: &str) -> Option<String> {
    if !cache.is_redis {
        Some(format!("is {}, not Redis", cache.backend))
    } else if !cache.key_function.is_empty() {
        Some("has a KEY_FUNCTION, which the proxy does not know".to_owned())
    } else if !cache.serializer.is_empty() && !cache.serializer.to_lowercase().contains("pickle") {
        Some(format!("has the serializer {}; the proxy reads pickles", cache.serializer))
    } else if Generation::of(django).is_none() {
        Some(format!("belongs to Django {django}, whose keys the proxy does not know"))
    } else {
        None
    }
}

/// The section on the Django that shares the cache.
fn django(project: &Project, cache: &Cache) -> String {
    let mut text = format!("[django]\nversion = {}\n", toml_text(&project.django));
    let mut set = |name: &str, value: String| {
        let _ = writeln!(text, "{name} = {value}");
    };
    if !cache.key_prefix.is_empty() {
        set("key_prefix", toml_text(&cache.key_prefix));
    }
    if cache.version != 1 {
        set("key_version", cache.version.to_string());
    }
    if let Some(language) = &project.language {
        set("language", toml_text(language));
    }
    if !project.languages.is_empty() {
        let languages: Vec<_> = project.languages.iter().map(|language| toml_text(language)).collect();
        set("languages", format!("[{}]", languages.join(", ")));
        set("language_cookie", toml_text(&project.language_cookie));
    }
    if let Some(time_zone) = &project.time_zone {
        set("time_zone", toml_text(time_zone));
    }
    if !project.script_name.is_empty() {
        set("script_name", toml_text(&project.script_name));
    }
    if project.use_x_forwarded_host {
        set("use_x_forwarded_host", "true".to_owned());
    }
    if let Some(compressor) = compressor(&cache.compressor) {
        set("compressor", toml_text(compressor));
    }
    text + &hit_headers(project)
}

/// The short name of a compressor of django-redis.
fn compressor(class: &str) -> Option<&'static str> {
    const NAMES: [&str; 5] = ["zlib", "gzip", "zstd", "lz4", "lzma"];
    NAMES.into_iter().find(|name| class.to_lowercase().contains(name))
}

/// The headers of the middleware that differ from those of a new project.
fn hit_headers(project: &Project) -> String {
    let given = |name: &str| project.hit_headers.get(name).map_or("", String::as_str);
    let different: Vec<_> = PRESET.iter().filter(|(name, preset)| given(name) != *preset).collect();
    if different.is_empty() {
        return String::new();
    }
    let mut text =
        "\n[django.hit_headers]   # what the middleware adds to each answer; an empty one is not added\n"
            .to_owned();
    for (name, _) in different {
        let _ = writeln!(text, "{name} = {}", toml_text(given(name)));
    }
    text
}

/// Why the rule of a stored view is a comment, if it is.
fn why_comment(kind: &RuleKind, shared: Option<&str>) -> Option<String> {
    match kind {
        RuleKind::Cached(page) if shared.is_some_and(|alias| alias != page.cache) => {
            Some(format!("it is in CACHES[{:?}], not in the one that is shared", page.cache))
        }
        RuleKind::Unclear(_, why) => Some(why.clone()),
        RuleKind::Cached(_) | RuleKind::Off | RuleKind::Proposed => None,
    }
}

/// A rule, as a comment if it does not count.
fn rule(draft: &Draft, shared: Option<&str>, notes: &mut Vec<String>) -> String {
    let path = toml_text(&draft.path);
    let page = match &draft.kind {
        RuleKind::Off => {
            return format!(
                "\n# no cache_page: {}\n[[cache_page]]\npath = {path}\ntimeout = \"off\"\n",
                draft.views.join(", ")
            );
        }
        RuleKind::Proposed => {
            return format!(
                "\n# {} has no cache_page, but looks as if it could have one:\n# [[cache_page]]\n# path = {path}\n# timeout = 60\n",
                draft.views.join(", ")
            );
        }
        RuleKind::Cached(page) | RuleKind::Unclear(page, _) => page,
    };
    let mut lines = format!("[[cache_page]]\npath = {path}\ntimeout = {}\n", page.timeout.round());
    if !page.key_prefix.is_empty() {
        let _ = writeln!(lines, "key_prefix = {}", toml_text(&page.key_prefix));
    }
    let views = draft.views.join(", ");
    let Some(note) = why_comment(&draft.kind, shared) else { return format!("\n# {views}\n{lines}") };
    notes.push(format!("{}: the rule is a comment, because {note}", draft.path));
    let commented: String = lines.lines().map(|line| format!("# {line}\n")).collect();
    format!("\n# {views}: {note}\n{commented}")
}

/// Notes for a proxy that keeps pages of its own, beside those of the site.
fn notes_beside(project: &Project, drafts: &[Draft]) -> Vec<String> {
    let mut notes = Vec::new();
    if drafts.iter().any(|draft| matches!(draft.kind, RuleKind::Cached(_))) {
        notes.push(
            "pages under cache_page are in the site's own cache, too, where no purge reaches them: take cache_page away \
             from views that are purged"
                .to_owned(),
        );
    }
    if !project.languages.is_empty() {
        notes.push(format!(
            "LocaleMiddleware chooses the language by the cookie {}: such pages need `Vary: Cookie` (docs/differences.md)",
            project.language_cookie
        ));
    }
    notes
}

/// The facts of a running site that its settings do not show.
fn unseen_settings(project: &Project) -> Vec<String> {
    let mut unseen = Vec::new();
    if !project.middleware.is_empty() {
        let names = project.middleware.join(", ");
        unseen.push(format!(
            "what {names} adds to each answer: if it adds headers, they belong into [django.hit_headers]"
        ));
    }
    if project.hsts {
        unseen.push(
            "Strict-Transport-Security: Django adds it to answers by https only; let the TLS proxy add it"
                .to_owned(),
        );
    }
    if !project.script_name.is_empty() {
        unseen.push(format!(
            "whether clients send {} before each path: then it belongs before the paths of the rules",
            project.script_name
        ));
    }
    unseen.push("the address of the site (origin), and the proxies before it (trusted_proxies)".to_owned());
    unseen
}
