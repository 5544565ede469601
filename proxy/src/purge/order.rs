//! Purges that clients ask for on the data port.
//!
//! `PURGE` names its URL, or tags in the same headers as answers (Varnish, Fastly, Wagtail). `PURGEKEYS` and `BAN` are methods
//! of FOSHttpCache, which writes tags as a regular expression.

use hyper::Method;
use hyper::header::{HeaderMap, HeaderName};
use hyper::http::request::Parts;

use super::tags::Tags;
use super::target::Target;
use crate::request::Question;

const XKEY: HeaderName = HeaderName::from_static("xkey");
const XKEY_PURGE: HeaderName = HeaderName::from_static("xkey-purge");
const XKEY_SOFTPURGE: HeaderName = HeaderName::from_static("xkey-softpurge");
const X_CACHE_TAGS: HeaderName = HeaderName::from_static("x-cache-tags");

/// The headers besides the tags that `BAN` compares with regular expressions.
const OTHERS: [HeaderName; 3] = [
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-url"),
    HeaderName::from_static("x-content-type"),
];

/// The regular expression for everything.
const ANY: &str = ".*";

/// The purge that a client asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PurgeOrder {
    pub(crate) targets: Vec<Target>,
    pub(crate) is_soft: bool,
}

/// Why a request for a purge is not carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Misread {
    #[error("no tag is named")]
    NoTag,
    #[error("more than 1024 tags: send several requests")]
    TooMany,
    #[error("only tags can be banned: X-Cache-Tags: (^|,)(one|two)(,|$), and .* for other headers")]
    Expression,
}

/// Whether a method asks for a purge. It never goes to the origin.
pub(crate) fn is_order(method: &Method) -> bool {
    matches!(method.as_str(), "PURGE" | "PURGEKEYS" | "BAN")
}

impl PurgeOrder {
    /// Reads a request. `queries` says whether a URL without a query stands for every query of its path.
    pub(crate) fn of(request: &Parts, question: &Question<'_>, queries: bool) -> Result<Self, Misread> {
        let order = match request.method.as_str() {
            "BAN" => Self { targets: banned(&request.headers)?, is_soft: false },
            "PURGEKEYS" => Self { targets: tags(&request.headers).ok_or(Misread::NoTag)?, is_soft: false },
            _ => {
                let url = || vec![Target::url(question, queries)];
                Self { targets: tags(&request.headers).unwrap_or_else(url), is_soft: false }
            }
        };
        match order.targets.len() {
            0 => Err(Misread::NoTag),
            1..=MOST => Ok(Self { is_soft: is_soft(&request.headers), ..order }),
            _ => Err(Misread::TooMany),
        }
    }
}

/// The most targets of one purge. A client's headers hold no more tags of a usual length.
pub(crate) const MOST: usize = 1024;

/// The tags in the headers; `None` if no header names tags.
fn tags(headers: &HeaderMap) -> Option<Vec<Target>> {
    let of_purges = [XKEY_PURGE, XKEY_SOFTPURGE];
    let mut named = headers.clone();
    for line in of_purges.iter().flat_map(|name| headers.get_all(name)) {
        named.append(XKEY, line.clone());
    }
    Tags::are_named(&named).then(|| Tags::of(&named).iter().map(Target::tag).collect())
}

fn is_soft(headers: &HeaderMap) -> bool {
    let says = |name: &str, soft: &str| {
        headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(soft.as_bytes()))
    };
    headers.contains_key(XKEY_SOFTPURGE) || says("fastly-soft-purge", "1") || says("x-purge", "soft")
}

/// The tags of a `BAN`. Without a restriction it means every page.
fn banned(headers: &HeaderMap) -> Result<Vec<Target>, Misread> {
    let expression = |name: &HeaderName| {
        let mut lines = headers.get_all(name).iter();
        match (lines.next(), lines.next()) {
            (None, _) => Ok(None),
            (Some(line), None) => line.to_str().map(Some).map_err(|_| Misread::Expression),
            (Some(_), Some(_)) => Err(Misread::Expression),
        }
    };
    let mut has_other = false;
    for name in &OTHERS {
        match expression(name)? {
            None => {}
            Some(ANY) => has_other = true,
            Some(_) => return Err(Misread::Expression),
        }
    }
    match expression(&X_CACHE_TAGS)? {
        None if has_other => Ok(vec![Target::all()]),
        None => Err(Misread::Expression),
        Some(ANY) => Ok(vec![Target::all()]),
        Some(tags) => {
            Ok(alternatives(tags).ok_or(Misread::Expression)?.into_iter().map(Target::tag).collect())
        }
    }
}

/// The tags in `(^|,)(one|two)(,|$)` or `(one|two)(,.+)?$`, without the backslashes of `preg_quote`.
fn alternatives(expression: &str) -> Option<Vec<String>> {
    let rest = expression.strip_prefix("(^|,)").unwrap_or(expression).strip_prefix('(')?;
    let rest = rest.strip_suffix(")(,|$)").or_else(|| rest.strip_suffix(")(,.+)?$"))?;
    let mut tags = vec![String::new()];
    let mut characters = rest.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => tags.last_mut()?.push(characters.next().filter(|quoted| !quoted.is_alphanumeric())?),
            '|' => tags.push(String::new()),
            '.' | '+' | '*' | '?' | '[' | ']' | '^' | '$' | '(' | ')' | '{' | '}' => return None,
            plain => tags.last_mut()?.push(plain),
        }
    }
    tags.iter().all(|tag| !tag.is_empty()).then_some(tags)
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;
    use crate::purge::TargetKind;

    /// The order in a request, `METHOD TARGET` and header lines.
    fn order(text: &str) -> Result<PurgeOrder, Misread> {
        let mut lines = text.split('\n');
        let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(target).header("host", "shop.example");
        let request = lines.fold(request, |request, line| {
            let (name, value) = line.split_once(": ").unwrap();
            request.header(name, value)
        });
        let request = request.body(()).unwrap().into_parts().0;
        assert!(is_order(&request.method));
        PurgeOrder::of(&request, &Question::of_parts(&request, server::Peer::LOCAL), true)
    }

    fn tagged(tags: &[&str], is_soft: bool) -> Result<PurgeOrder, Misread> {
        Ok(PurgeOrder { targets: tags.iter().map(|tag| Target::tag(*tag)).collect(), is_soft })
    }

    fn url(url: &str, is_soft: bool) -> Result<PurgeOrder, Misread> {
        Ok(PurgeOrder { targets: vec![Target::new(TargetKind::Url, url)], is_soft })
    }

    #[test]
    fn a_purge_names_its_url_or_tags() {
        for (text, expected) in [
            ("PURGE /p/", url("//shop.example/p/", false)),
            ("PURGE /p/?page=2\nFastly-Soft-Purge: 1", url("//shop.example/p/?page=2", true)),
            ("PURGE /p/\nX-Purge: Soft", url("//shop.example/p/", true)),
            ("PURGE /p/\nFastly-Soft-Purge: 0", url("//shop.example/p/", false)),
            ("PURGE /\nSurrogate-Key: a b", tagged(&["a", "b"], false)),
            ("PURGE /\nxkey: a, b\nFastly-Soft-Purge: 1", tagged(&["a", "b"], true)),
            ("PURGE /\nxkey-softpurge: a b", tagged(&["a", "b"], true)),
            ("PURGE /\nCache-Tag: a b,c", tagged(&["a b", "c"], false)),
            ("PURGE /\nX-Cache-Tags: a,b", tagged(&["a", "b"], false)),
            ("PURGE /\nSurrogate-Key: ", Err(Misread::NoTag)),
            ("PURGEKEYS /\nxkey-softpurge: a b", tagged(&["a", "b"], true)),
            ("PURGEKEYS /\nxkey-purge: a b", tagged(&["a", "b"], false)),
            ("PURGEKEYS /", Err(Misread::NoTag)),
        ] {
            assert_eq!(order(text), expected, "{text}");
        }
        let many = vec!["t"; MOST].join(" ");
        assert!(order(&format!("PURGE /\nxkey: {many}")).is_ok());
        assert_eq!(order(&format!("PURGE /\nxkey: {many} t")), Err(Misread::TooMany));
    }

    #[test]
    fn a_ban_names_tags_as_foshttpcache_writes_them() {
        let others = "X-Host: .*\nX-Url: .*\nX-Content-Type: .*";
        let all = || Ok(PurgeOrder { targets: vec![Target::all()], is_soft: false });
        for (tags, expected) in [
            ("X-Cache-Tags: (^|,)(a|b)(,|$)", tagged(&["a", "b"], false)),
            ("X-Cache-Tags: (a|b)(,.+)?$", tagged(&["a", "b"], false)),
            (r"X-Cache-Tags: (^|,)(product\-42|a\.b\|c)(,|$)", tagged(&["product-42", "a.b|c"], false)),
            ("X-Cache-Tags: .*", all()),
            ("X-Cache-Tags: a", Err(Misread::Expression)),
            ("X-Cache-Tags: (a.*)(,|$)", Err(Misread::Expression)),
            (r"X-Cache-Tags: (\d)(,|$)", Err(Misread::Expression)),
            ("X-Cache-Tags: (a|)(,|$)", Err(Misread::Expression)),
            ("X-Cache-Tags: (a)(,|$)\nX-Cache-Tags: (b)(,|$)", Err(Misread::Expression)),
        ] {
            assert_eq!(order(&format!("BAN /\n{others}\n{tags}")), expected, "{tags}");
        }
        assert_eq!(order(&format!("BAN /\n{others}")), all());
        for text in ["BAN /", "BAN /\nX-Url: /blog/.*", "BAN /\nX-Host: shop\nX-Cache-Tags: (a)(,|$)"] {
            assert_eq!(order(text), Err(Misread::Expression), "{text}");
        }
    }
}
