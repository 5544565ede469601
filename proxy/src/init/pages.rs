//! The file for an origin that is known by its pages only. They are asked for through a proxy that stores every page that it
//! may. Its answers say which pages it stores, and why it does not store the others.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::sync::Arc;

use hyper::Uri;
use hyper::http::uri::PathAndQuery;
use server::Clients;
use tokio::net::TcpListener;

use super::{Drafted, addresses, toml_text};
use crate::args::Args;
use crate::config::{Config, StoreUrl};
use crate::key::{Keys, Placement};
use crate::page::format::Format;
use crate::policy::Rule;
use crate::request::site::Site;
use crate::store::MemoryStore;
use crate::visitor::{VisitedPage, Visitor};
use crate::way::{InForce, Proxy};

/// The most pages that are asked for.
const PAGES: usize = 20;

/// The outcomes of all pages below a first part of the path, such as `/blog/`.
#[derive(Debug, Default)]
struct PathPart {
    stored: Vec<String>,
    /// Pages that are not stored, and why.
    passed: Vec<(String, String)>,
}

/// Asks for the front page and for pages that it links to.
pub(super) async fn draft(config: &Config, args: &Args) -> Result<Drafted, String> {
    let visitor = trial(config).await.map_err(|error| format!("cannot try pages: {error}"))?;
    let mut parts: BTreeMap<String, PathPart> = BTreeMap::new();
    let mut paths = VecDeque::from(["/".to_owned()]);
    let mut seen = paths.clone();
    while let Some(path) = paths.pop_front() {
        let page = visitor.get(&path.parse::<Uri>().map_err(|error| format!("{path}: {error}"))?).await?;
        if path == "/" && page.status.is_server_error() {
            return Err(format!("the origin answers {}; --origin names another", page.status));
        }
        for link in links(&page, &path) {
            if seen.len() < PAGES && !seen.contains(&link) {
                seen.push_back(link.clone());
                paths.push_back(link);
            }
        }
        let part = parts.entry(first_part(&path)).or_default();
        match refusal(&page) {
            None => part.stored.push(path),
            Some(why) => part.passed.push((path, why)),
        }
    }
    Ok(written(&parts, args))
}

/// Starts a proxy that stores every page it may, in memory.
async fn trial(config: &Config) -> std::io::Result<Visitor> {
    let rules = Rule::new("/*", 60).into_iter().collect();
    let (keys, format, store) = (Keys::Path(Placement::Anywhere), Format::Http, StoreUrl::Memory);
    let config = Config { rules, keys, format, store, near: None, admin: None, ..config.clone() };
    let config = Config { follows: Vec::new(), ..config };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let store = MemoryStore::of_values(config.memory_limit, config.max_entry);
    let proxy = Proxy::new(&config, Site::localhost(address.port()), store);
    let proxy = Arc::new(InForce::new(proxy));
    tokio::spawn(server::serve(listener, proxy, Clients::default(), pending()));
    Ok(Visitor::of(address))
}

/// Why a page was not stored.
fn refusal(page: &VisitedPage) -> Option<String> {
    if page.is_stored() {
        return None;
    }
    let detail = page.cache_status().split("detail=").nth(1).unwrap_or("no reason");
    Some(format!("{}, {detail}", page.status.as_u16()))
}

/// The paths on the same site that a page links to.
fn links(page: &VisitedPage, path: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(&page.body);
    let quoted = text.split("href=").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|quote| ['"', '\''].contains(quote))?;
        rest[1..].split(quote).next()
    });
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let below = |link: &str| match link {
        rooted if rooted.starts_with('/') && !rooted.starts_with("//") => Some(rooted.to_owned()),
        other if other.contains(':') || other.starts_with(['/', '#', '?']) || other.is_empty() => None,
        relative if relative.starts_with('.') => None,
        relative => Some(format!("{folder}/{relative}")),
    };
    let plain = |link: String| link.split(['#', '?']).next().unwrap_or_default().replace("&amp;", "&");
    let is_path = |link: &String| link.parse::<PathAndQuery>().is_ok();
    quoted.filter_map(below).map(plain).filter(is_path).collect()
}

/// The first part of a path: `/blog/` of `/blog/2026/`. A path with one part is its own first part.
fn first_part(path: &str) -> String {
    match path[1..].find('/') {
        Some(end) if end + 2 < path.len() => path[..end + 2].to_owned(),
        _ => path.to_owned(),
    }
}

fn written(parts: &BTreeMap<String, PathPart>, args: &Args) -> Drafted {
    let mut text =
        "# Written by `proxy init` after a look at some pages. Check it with `proxy check`.\n\n".to_owned();
    text += &addresses(args);
    let mut rules = 0;
    for (first, part) in parts.iter().rev() {
        let paths = match part.stored.len() {
            0 | 1 => part.stored.clone(),
            _ if part.passed.is_empty() => vec![format!("{first}*")],
            _ => part.stored.clone(),
        };
        for (path, why) in &part.passed {
            text += &format!("\n# {path} is not stored: {why}\n");
        }
        for path in &paths {
            text += &format!("\n[[cache_page]]\npath = {}\ntimeout = 60\n", toml_text(path));
        }
        rules += paths.len();
    }
    let unseen = vec![
        format!("pages beyond the first {PAGES}, those that need a login, and those that only forms lead to"),
        "how long a page may be kept: each timeout is 60 seconds, as long as the article keeps one"
            .to_owned(),
    ];
    Drafted { text, rules, in_comments: 0, notes: Vec::new(), unseen }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::{HeaderMap, StatusCode};

    use super::*;

    fn page(body: &'static str) -> VisitedPage {
        VisitedPage {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn links_are_paths_of_the_same_site() {
        let body = "<a href=\"/a/?x=1&amp;y=2#z\"> <a href='b/'> <a href=\"https://other/\"> <a href=\"//other/\"> \
                    <a href=\"#top\"> <a href=\"mailto:a@b\"> <a href=\"../up\"> <a href=c>";
        assert_eq!(links(&page(body), "/blog/"), ["/a/", "/blog/b/"]);
    }

    #[test]
    fn pages_are_grouped_by_the_first_part_of_their_paths() {
        for (path, first) in [("/", "/"), ("/a", "/a"), ("/a/", "/a/"), ("/a/b", "/a/"), ("/a/b/c/", "/a/")] {
            assert_eq!(first_part(path), first, "{path}");
        }
    }
}
