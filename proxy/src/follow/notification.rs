//! The notifications of a database.

use serde::Deserialize;

/// The pages that a change has made old. A payload of JSON names them. Any other payload is a list of words, which are tags.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Notification {
    pub(crate) tags: Vec<String>,
    pub(crate) urls: Vec<String>,
    pub(crate) prefixes: Vec<String>,
    pub(crate) soft: bool,
}

impl Notification {
    /// Reads a payload; `None` if it cannot be read, and so may mean any page.
    pub(crate) fn of(payload: &str) -> Option<Self> {
        let payload = payload.trim();
        if payload.starts_with(['{', '[', '"']) {
            return serde_json::from_str(payload).ok().filter(Self::is_readable);
        }
        let tags: Vec<_> = payload.split_whitespace().map(str::to_owned).collect();
        (!tags.is_empty()).then(|| Self { tags, ..Self::default() })
    }

    /// An empty name is a mistake of the trigger, and names no page.
    fn is_readable(&self) -> bool {
        [&self.tags, &self.urls, &self.prefixes].into_iter().flatten().all(|name| !name.trim().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_or_tags() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let tags = |tags: &[&str]| Some(Notification { tags: names(tags), ..Notification::default() });
        let whole = Notification {
            tags: names(&["a"]),
            urls: names(&["http://h/"]),
            prefixes: names(&["http://h/b"]),
            soft: true,
        };
        for (payload, expected) in [
            ("housing.property", tags(&["housing.property"])),
            (" a  b\nc ", tags(&["a", "b", "c"])),
            (r#"{"tags":["a b","c"]}"#, tags(&["a b", "c"])),
            (r#"{"tags":["a"],"urls":["http://h/"],"prefixes":["http://h/b"],"soft":true}"#, Some(whole)),
            ("{}", tags(&[])),
            ("", None),
            ("  ", None),
            ("{", None),
            (r#"{"tag":["a"]}"#, None),
            (r#"{"tags":"a"}"#, None),
            (r#"{"tags":[""]}"#, None),
            (r#"{"tags":[],"soft":1}"#, None),
            (r#"["a"]"#, None),
            (r#""a""#, None),
        ] {
            assert_eq!(Notification::of(payload), expected, "{payload}");
        }
    }
}
