//! Purges in the JSON of the draft of an HTTP Cache Invalidation API (draft-nottingham-http-invalidation), with two more
//! types.

use serde::Deserialize;

use super::order::MOST;
use super::target::Target;

/// The JSON of a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Notice {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    selectors: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default = "yes")]
    purge: bool,
}

fn yes() -> bool {
    true
}

/// Why a notice is not carried out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Unfollowed {
    #[error("{0}")]
    Unreadable(String),
    #[error("{0:?} is not one of uri, uri-prefix, origin, group, tag, all")]
    Type(String),
}

impl Notice {
    /// Reads a request's body.
    pub(crate) fn of(body: &[u8]) -> Result<Self, Unfollowed> {
        let notice: Self = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
        match (notice.kind.as_str(), notice.selectors.len() + notice.groups.len()) {
            ("all", _) => Ok(notice),
            (_, 0) => Err(unreadable(&"selectors names nothing")),
            (_, count) if count > MOST => Err(unreadable(&"more than 1024 selectors and groups")),
            _ => Ok(notice),
        }
    }

    pub(crate) fn is_soft(&self) -> bool {
        !self.purge
    }

    /// The targets. `of_url` returns those of a URL.
    pub(crate) fn targets(
        &self,
        of_url: impl Fn(&str) -> Result<Vec<Target>, String>,
    ) -> Result<Vec<Target>, Unfollowed> {
        let each = |targets: &dyn Fn(&str) -> Result<Vec<Target>, String>| -> Result<Vec<Target>, String> {
            let all = self.selectors.iter().map(|selector| targets(selector));
            Ok(all.collect::<Result<Vec<_>, _>>()?.concat())
        };
        let targets = match self.kind.as_str() {
            "uri" => each(&of_url),
            "uri-prefix" => each(&|prefix| Target::prefixes(prefix)),
            "origin" => each(&|origin| Ok(vec![Target::origin(origin)?])),
            "tag" => each(&|tag| Ok(vec![Target::tag(tag)])),
            "group" => each(&|origin| {
                let groups = self.groups.iter().map(|group| Target::group_of(origin, group));
                groups.collect()
            }),
            "all" => Ok(vec![Target::all()]),
            other => return Err(Unfollowed::Type(other.to_owned())),
        };
        match targets.map_err(|fault| unreadable(&fault))? {
            targets if targets.is_empty() => Err(unreadable(&"groups names nothing")),
            targets => Ok(targets),
        }
    }
}

fn unreadable(fault: &dyn std::fmt::Display) -> Unfollowed {
    Unfollowed::Unreadable(fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purge::TargetKind;

    fn targets(body: &str) -> Result<(Vec<Target>, bool), Unfollowed> {
        let notice = Notice::of(body.as_bytes())?;
        let of_url = |url: &str| Ok(vec![Target::new(TargetKind::Url, url)]);
        Ok((notice.targets(of_url)?, notice.is_soft()))
    }

    #[test]
    fn each_type_names_its_pages() {
        for (body, kind, values) in [
            (r#"{"type":"uri","selectors":["a","b"],"purge":true}"#, TargetKind::Url, &["a", "b"][..]),
            (r#"{"type":"uri-prefix","selectors":["https://a/b"]}"#, TargetKind::Prefix, &["//a/b"]),
            (r#"{"type":"origin","selectors":["https://a"]}"#, TargetKind::Origin, &["//a"]),
            (r#"{"type":"tag","selectors":["x","y z"]}"#, TargetKind::Tag, &["x", "y z"]),
            (
                r#"{"type":"group","selectors":["https://a","http://b:81"],"groups":["g","h"]}"#,
                TargetKind::Group,
                &["//a g", "//a h", "//b:81 g", "//b:81 h"],
            ),
            (r#"{"type":"all"}"#, TargetKind::All, &[""]),
        ] {
            let expected: Vec<_> = values.iter().map(|value| Target::new(kind, *value)).collect();
            assert_eq!(targets(body), Ok((expected, false)), "{body}");
        }
        assert!(targets(r#"{"type":"all","purge":false}"#).unwrap().1);
    }

    #[test]
    fn another_type_is_unknown_and_all_else_unreadable() {
        let other = targets(r#"{"type":"regex","selectors":["a"]}"#);
        assert_eq!(other, Err(Unfollowed::Type("regex".to_owned())));
        for body in [
            "",
            "[]",
            "{}",
            r#"{"type":"uri"}"#,
            r#"{"type":"uri","selectors":"a"}"#,
            r#"{"type":"uri-prefix","selectors":["/blog"]}"#,
            r#"{"type":"group","selectors":["https://a"]}"#,
            r#"{"type":"all","soft":true}"#,
        ] {
            assert!(matches!(targets(body), Err(Unfollowed::Unreadable(_))), "{body}");
        }
    }
}
