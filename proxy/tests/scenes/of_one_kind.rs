//! Which scenes do not run over the store that `CACHEPAGE_TEST_STORE` chooses, and why.

use std::fs;
use std::path::Path;

/// The scenes that start servers of one kind whatever store is chosen, and why. All others that need a server run over the
/// chosen store; those that need none run over a store in memory (`Setup::Plain`).
const OF_ONE_KIND: [(&str, &str); 18] = [
    ("acme/fleet.rs", "what proxies share is read in, and deleted from, one Redis"),
    ("collapse.rs", "the clients of one Redis are counted"),
    ("explain.rs", "a user has fewer rights on one Redis"),
    (
        "failure.rs",
        "one Redis hangs, is full, or is a replica; purge_checker and the chaos suite do that to each kind",
    ),
    ("near.rs", "the commands of one Redis are counted; near_cluster.rs has the coherence of a cluster"),
    ("near_cluster.rs", "it is about a cluster"),
    ("program.rs", "a URL has the wrong scheme"),
    ("purge.rs", "the commands of one Redis are counted, and it has no replica"),
    ("purge_checker.rs", "rules are broken over one Redis; the checker runs over each kind"),
    ("purge_checker/moments.rs", "each moment is one of a kind"),
    ("purge_checker/servers.rs", "one Redis gets a replica"),
    ("purge_cluster.rs", "it is about a cluster"),
    ("purge_figures.rs", "the memory of one Redis is measured"),
    ("redis.rs", "MONITOR shows the commands of one Redis"),
    ("refusals.rs", "what refuses stands before one Redis, or is one node"),
    ("renewals.rs", "a writer changes pages in one Redis; purge_checker renews pages over each kind"),
    ("sentinels.rs", "it is about Sentinels"),
    ("stores.rs", "each scene is about one kind"),
];

#[test]
fn each_scene_that_does_not_run_over_the_chosen_store_has_its_reason() {
    let scenes = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenes");
    let listed = OF_ONE_KIND.map(|(name, _)| name.to_owned());
    let mut found = Vec::new();
    for folder in ["", "purge_checker/", "hostile/", "http2/", "tls/", "acme/"] {
        for file in fs::read_dir(scenes.join(folder)).unwrap() {
            let name = format!("{folder}{}", file.unwrap().file_name().display());
            let text = fs::read_to_string(scenes.join(&name)).unwrap_or_default();
            let starts = ["Redis::start", "Cluster::start(", "Watched::start("];
            let is_scene = !["backend.rs", "of_one_kind.rs"].contains(&name.as_str());
            if is_scene && starts.iter().any(|start| text.contains(start)) {
                found.push(name);
            }
        }
    }
    found.sort();
    assert_eq!(found, listed);
}
