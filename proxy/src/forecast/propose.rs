//! The rules that a log suggests.

use super::tally::{Groups, Tally};

/// The most rules that are proposed.
const MOST_RULES: usize = 20;

/// A folder is left out if at least one in so many of its requests is for a page that looks personal. Fewer may be chance: a
/// visitor whose name is in the log may be the only one who asked for a rare page.
const LEAST_PERSONAL: u64 = 100;

/// A path for a rule, and its tally.
pub(super) type Proposed = (String, Tally);

/// The folder of a path, written as the path of a rule: `/blog/*` for `/blog/2026/`; `None` if the path has no folder.
pub(super) fn folder(path: &str) -> Option<String> {
    let end = path.get(1..)?.find('/')? + 2;
    (path.len() > end).then(|| format!("{}*", &path[..end]))
}

/// Folders whose pages are worth caching, and single paths. If a folder has personal pages, it is left out, and its other
/// pages are proposed one by one.
pub(super) fn propose(
    folders: &Groups,
    paths: &Groups,
    (requests, has_several_visitors): (u64, bool),
    slot: usize,
) -> Vec<Proposed> {
    let is_personal = |tally: &Tally| tally.looks_personal(has_several_visitors).is_some();
    let is_worth = |tally: &Tally| {
        let hits = tally.brought.get(slot).map_or(0, |brought| brought.hits);
        tally.requests >= 10.max(requests / 1000) && hits * 5 >= tally.requests && !is_personal(tally)
    };
    let paths = paths.best(slot);
    let has_personal = |folder: &str, tally: &Tally| {
        let start = folder.trim_end_matches('*');
        let personal = paths.iter().filter(|(path, tally)| path.starts_with(start) && is_personal(tally));
        personal.map(|(_, tally)| tally.requests).sum::<u64>() * LEAST_PERSONAL >= tally.requests
    };
    let of_folders = folders.best(slot).into_iter();
    let mut proposed: Vec<Proposed> = of_folders
        .filter(|(folder, tally)| is_worth(tally) && !has_personal(folder, tally) && is_path(folder))
        .map(|(folder, tally)| (folder.to_owned(), tally.clone()))
        .collect();
    let is_covered = |proposed: &[Proposed], path: &str| {
        folder(path).is_some_and(|folder| proposed.iter().any(|(name, _)| *name == folder))
    };
    for (path, tally) in paths.iter().filter(|(path, tally)| is_worth(tally) && is_path(path)) {
        if !is_covered(&proposed, path) {
            proposed.push(((*path).to_owned(), (*tally).clone()));
        }
    }
    let hits = |tally: &Tally| tally.brought.get(slot).map_or(0, |brought| brought.hits);
    proposed.sort_by_key(|(_, tally)| std::cmp::Reverse(hits(tally)));
    proposed.truncate(MOST_RULES);
    proposed
}

/// Whether a rule can have this path: clients also send paths that no rule accepts.
fn is_path(path: &str) -> bool {
    crate::policy::Rule::new(path, 60).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::tally::Brought;

    fn tally(requests: u64, hits: u64, personal: u64) -> Tally {
        let mut tally = Tally::default();
        (tally.requests, tally.personal) = (requests, personal);
        tally.brought.push(Brought::default());
        tally.brought[0].hits = hits;
        tally
    }

    #[test]
    fn a_folder_is_the_first_segment_of_a_longer_path() {
        for (path, expected) in [
            ("/", None),
            ("/a", None),
            ("/a/", None),
            ("/a/b", Some("/a/*")),
            ("/a/b/c", Some("/a/*")),
            ("//a", Some("//*")),
            ("", None),
        ] {
            assert_eq!(folder(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn folders_come_before_paths_and_personal_pages_are_left_out() {
        let (mut folders, mut paths) = (Groups::new(99), Groups::new(99));
        for (name, of) in [
            ("/blog/*", tally(1000, 800, 0)),
            ("/shop/*", tally(1000, 500, 0)),
            ("/api/*", tally(1000, 10, 0)),
            ("/news/*", tally(1000, 300, 1)),
        ] {
            *folders.of(name) = of;
        }
        for (name, of) in [
            ("/", tally(500, 450, 0)),
            ("/blog/a", tally(100, 90, 0)),
            ("/shop/list", tally(600, 500, 0)),
            ("/shop/cart", tally(200, 100, 150)),
            ("/news/rare", tally(9, 0, 9)),
            ("/rare", tally(5, 4, 0)),
            ("/odd*path", tally(500, 400, 0)),
        ] {
            *paths.of(name) = of;
        }
        let proposed = propose(&folders, &paths, (3000, true), 0);
        let names: Vec<_> = proposed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["/blog/*", "/shop/list", "/", "/news/*"]);
    }
}
