//! `No-Vary-Search`: which parameters of the query select a page (draft-ietf-httpbis-no-vary-search).

use std::fmt;

use hyper::header::{HeaderMap, HeaderName};
use percent_encoding::percent_decode;
use sfv::{BareItem, Dictionary, InnerList, ListEntry, Parser};

const NO_VARY_SEARCH: HeaderName = HeaderName::from_static("no-vary-search");

/// A field with more names is ignored: no real page needs so many, and each lookup compares them.
const MAX_NAMES: usize = 256;

/// The parameters of a query that select a page. By default it is the query as it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SearchVariance {
    params: Params,
    ignores_order: bool,
}

/// Names as an origin reads them, sorted, without repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Params {
    AllBut(Vec<String>),
    Only(Vec<String>),
}

impl Default for Params {
    fn default() -> Self {
        Self::AllBut(Vec::new())
    }
}

impl SearchVariance {
    /// Reads the headers of a page. All lines are one dictionary.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let lines: Vec<_> = headers.get_all(NO_VARY_SEARCH).iter().map(|line| line.as_bytes()).collect();
        Self::parse(&lines.join(&b", "[..])).unwrap_or_default()
    }

    /// "Parse a URL search variance" (§5.1); `None` where that returns the default "whenever it sees something it doesn't
    /// recognize". Unknown keys do not count.
    pub(crate) fn parse(field: &[u8]) -> Option<Self> {
        let field = Parser::new(field).parse::<Dictionary>().ok()?;
        let ignores_order = field.get("key-order").map_or(Some(false), boolean)?;
        let params = match (field.get("params"), field.get("except")) {
            (None, None) => Params::default(),
            (Some(ListEntry::InnerList(names)), None) => Params::AllBut(names_in(names)?),
            (Some(params), None) if boolean(params)? => Params::Only(Vec::new()),
            (Some(_), None) => Params::default(),
            (Some(params), Some(ListEntry::InnerList(names))) if boolean(params)? => {
                Params::Only(names_in(names)?)
            }
            _ => return None,
        };
        Some(Self { params, ignores_order })
    }

    /// Whether the whole query selects the page, exactly as it was sent.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The names that the field lists.
    pub(crate) fn names(&self) -> &[String] {
        match &self.params {
            Params::AllBut(names) | Params::Only(names) => names,
        }
    }

    /// The parameters of a query that select the page, in one spelling: queries with the same text are "equivalent modulo
    /// search variance" (§6).
    pub(crate) fn simplified(&self, query: &str) -> String {
        let parameters = form_urlencoded::parse(query.as_bytes());
        let mut parameters: Vec<_> = parameters.filter(|(name, _)| self.selects(name)).collect();
        if self.ignores_order {
            parameters.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
    }

    fn selects(&self, name: &str) -> bool {
        let is_among = |names: &[String]| names.binary_search_by(|known| known.as_str().cmp(name)).is_ok();
        match &self.params {
            Params::AllBut(names) => !is_among(names),
            Params::Only(names) => is_among(names),
        }
    }
}

/// Writes a field with the same meaning.
impl fmt::Display for SearchVariance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |name: &String| {
            let encoded: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
            format!("\"{encoded}\"")
        };
        let names = self.names().iter().map(quoted).collect::<Vec<_>>().join(" ");
        let params = match &self.params {
            Params::AllBut(list) if list.is_empty() => None,
            Params::AllBut(_) => Some(format!("params=({names})")),
            Params::Only(list) if list.is_empty() => Some("params".to_owned()),
            Params::Only(_) => Some(format!("params, except=({names})")),
        };
        let order = self.ignores_order.then(|| "key-order".to_owned());
        f.write_str(&order.into_iter().chain(params).collect::<Vec<_>>().join(", "))
    }
}

fn boolean(entry: &ListEntry) -> Option<bool> {
    match entry {
        ListEntry::Item(item) => match item.bare_item {
            BareItem::Boolean(is) => Some(is),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    }
}

/// The names in a list of strings; `None` if the list is of another kind, or too long.
fn names_in(list: &InnerList) -> Option<Vec<String>> {
    let name = |item: &sfv::Item| match &item.bare_item {
        BareItem::String(text) => Some(decoded(text.as_str())),
        _ => None,
    };
    let mut names = list.items.iter().map(name).collect::<Option<Vec<_>>>()?;
    names.sort_unstable();
    names.dedup();
    (names.len() <= MAX_NAMES).then_some(names)
}

/// "Parse a key" (§5.3): a name in the spelling of a query.
fn decoded(name: &str) -> String {
    let spaced = name.replace('+', " ");
    percent_decode(spaced.as_bytes()).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&str]) -> SearchVariance {
        let line = |line: &&str| (NO_VARY_SEARCH, HeaderValue::from_str(line).unwrap());
        SearchVariance::of(&lines.iter().map(line).collect())
    }

    #[test]
    fn a_field_that_can_be_read_counts_in_its_plainest_form() {
        for (line, expected) in [
            ("params", "params"),
            ("params=?1", "params"),
            ("key-order", "key-order"),
            ("key-order=?1;a, x=1", "key-order"),
            ("params=(\"b\" \"a\" \"b\")", "params=(\"a\" \"b\")"),
            ("params, key-order, except=(\"x\")", "key-order, params, except=(\"x\")"),
            ("params, except=()", "params"),
            ("params=(\"%C3%A9+x\" \"a b\" \"a%2Bb\")", "params=(\"a+b\" \"a%2Bb\" \"%C3%A9+x\")"),
        ] {
            let variance = of(&[line]);
            assert_eq!(variance.to_string(), expected, "{line}");
            assert_eq!(SearchVariance::parse(expected.as_bytes()), Some(variance), "{line}");
        }
        assert_eq!(of(&["params", "except=(\"x\")"]).to_string(), "params, except=(\"x\")");
    }

    #[test]
    fn a_field_that_cannot_be_read_does_not_count() {
        let many =
            format!("params=({})", (0..=MAX_NAMES).map(|i| format!("\"{i}\"")).collect::<Vec<_>>().join(" "));
        for line in [
            "",
            "unknown-key",
            "params=?0",
            "params=()",
            "key-order=?0",
            "key-order=\"not a boolean\"",
            "params=\"not a boolean or inner list\"",
            "params=(not-a-string)",
            "params=(\"a\"), except=(\"x\")",
            "params=(), except=()",
            "params=?0, except=(\"x\")",
            "params, except=(not-a-string)",
            "params, except=\"not an inner list\"",
            "params, except=?1",
            "params, except",
            "except=(\"x\")",
            "except=()",
            "key-order, except=()",
            "params=(\"a\"",
            "Params",
            &many,
        ] {
            assert!(of(&[line]).is_default(), "{line}");
        }
    }

    #[test]
    fn queries_are_alike_as_an_origin_reads_them() {
        for (line, queries, expected) in [
            (
                "params=(\"utm\")",
                &["a=1&utm=2", "utm&a=1", "a=1", "%61=%31&&utm=", "a=1&ut%6D=x&"][..],
                "a=1",
            ),
            ("params", &["", "a=1", "b&c"], ""),
            ("params, except=(\"id\")", &["id=1", "x&id=1&y=2"], "id=1"),
            ("key-order", &["a=2&b=1&a=1", "b=1&a=2&a=1", "a=2&a=1&b=1"], "a=2&a=1&b=1"),
            ("key-order", &["a=+", "a=%20", "a= "], "a=+"),
            ("key-order", &["a", "a=", "&a"], "a="),
            ("key-order", &["a=%f6", "a=%EF%BF%BD"], "a=%EF%BF%BD"),
        ] {
            for query in queries {
                assert_eq!(of(&[line]).simplified(query), expected, "{line} {query}");
            }
        }
    }

    /// The comparison as the draft writes it (§6), over names of one letter and values of one digit.
    fn are_equivalent(
        no_vary: Option<&[char]>,
        vary: &[char],
        ignores_order: bool,
        queries: [&str; 2],
    ) -> bool {
        let [one, other] = queries.map(|query| {
            let pieces = query.split('&').filter(|piece| !piece.is_empty());
            let pairs = pieces.map(|piece| piece.split_once('=').unwrap_or((piece, "")));
            let mut kept: Vec<_> = pairs
                .filter(|(name, _)| {
                    let is_in = |list: &[char]| name.chars().next().is_some_and(|name| list.contains(&name));
                    no_vary.map_or_else(|| is_in(vary), |no_vary| !is_in(no_vary))
                })
                .collect();
            if ignores_order {
                kept.sort_by_key(|(name, _)| *name);
            }
            kept
        });
        one == other
    }

    fn query() -> impl Strategy<Value = String> {
        let piece = ("[abc]?", "=?", "[12]?").prop_map(|(name, equals, value)| match (&*name, &*equals) {
            ("", _) => String::new(),
            (_, "") => name,
            _ => format!("{name}={value}"),
        });
        proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.join("&"))
    }

    proptest! {
        #[test]
        fn simplified_queries_are_equal_if_the_draft_says_that_the_queries_are_equivalent(
            names in proptest::collection::vec(prop_oneof![Just('a'), Just('b')], 0..3),
            is_wildcard in any::<bool>(),
            ignores_order in any::<bool>(),
            queries in [query(), query()],
        ) {
            let list = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" ");
            let params = if is_wildcard { format!("params, except=({list})") } else { format!("params=({list})") };
            let order = if ignores_order { "key-order, " } else { "" };
            let variance = of(&[&format!("{order}{params}")]);
            let [one, other] = [0, 1].map(|index| variance.simplified(&queries[index]));
            let expected = are_equivalent(
                (!is_wildcard).then_some(&names[..]), &names, ignores_order, [&queries[0], &queries[1]],
            );
            prop_assert_eq!(one == other, expected, "{:?} {:?}", variance, queries);
            prop_assert_eq!(variance.simplified(&one), one);
        }
    }
}
