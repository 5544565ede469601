//! Links between pages, and to files of the project.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use pulldown_cmark::{Event, Tag, TagEnd};

use crate::pages::{self, Page, root};

/// The targets of all links and images of a page that are within the project, each with its place.
fn targets(page: &Page) -> Vec<(String, String)> {
    let target = |event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => Some(dest_url.to_string()),
        _ => None,
    };
    let targets = page.events().filter_map(|(event, range)| Some((page.place(range.start), target(event)?)));
    targets.filter(|(_, target)| !target.contains("://")).collect()
}

/// The anchors of a page's headings, as GitHub makes them: lower case, hyphens for blanks, no other punctuation.
fn anchors(page: &Page) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut heading: Option<String> = None;
    for (event, _) in page.events() {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                heading.iter_mut().for_each(|heading| heading.push_str(&text));
            }
            Event::End(TagEnd::Heading(_)) => anchors.extend(heading.take().map(|heading| anchor(&heading))),
            _ => {}
        }
    }
    anchors
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn each_link_within_the_project_has_a_target() {
    let mut broken = Vec::new();
    for page in pages::all() {
        for (place, target) in targets(&page) {
            let (file, anchor) =
                target.split_once('#').map_or((&*target, None), |(file, at)| (file, Some(at)));
            let path = match file {
                "" => page.path.clone(),
                file => page.path.parent().unwrap_or(Path::new("")).join(file),
            };
            let has_anchor = |anchor: &str| anchors(&pages::page(&path)).contains(anchor);
            if !root().join(&path).exists() || !anchor.is_none_or(has_anchor) {
                broken.push(format!("{place}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_index_of_the_docs_names_each_page() {
    let index: Vec<_> =
        targets(&pages::page("docs/README.md")).into_iter().map(|(_, target)| target).collect();
    for page in pages::all().iter().filter(|page| page.path.starts_with("docs")) {
        let name = page.path.file_name().unwrap().to_str().unwrap();
        let is_named = index.iter().any(|target| target.split('#').next() == Some(name));
        assert!(is_named || name == "README.md", "docs/README.md does not name {name}");
    }
}

/// Commands that are not run here could name a page that does not exist.
#[test]
fn each_url_of_the_article_is_one_that_the_origin_serves() {
    let routes = fs::read_to_string(root().join("origin/src/routes.rs")).unwrap();
    let is_end = |c: char| c.is_whitespace() || "?'\"`)".contains(c);
    for page in pages::all() {
        for (host, _) in page.text.match_indices("http://localhost:800") {
            let url = page.text[host..].split(is_end).next().unwrap();
            let Some((_, path)) = url.split_once("/api/properties/") else { continue };
            let is_served = routes.contains(&format!("\"/api/properties/{path}\""));
            assert!(is_served, "{}: the origin does not serve {url}", page.place(host));
        }
    }
}
