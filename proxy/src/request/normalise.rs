//! Normalising: leaves out or sorts parts of a request, as a rule says. The key is made of the normal form, and the origin
//! gets the normal form, so no page is ever stored for a request that the origin has not seen.

use std::borrow::Cow;

use hyper::Uri;
use hyper::header::{ACCEPT_ENCODING, COOKIE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use percent_encoding::percent_decode;
use server::SentTarget;

use super::receive::retain;
use super::{Coding, Question};
use crate::pattern::Pattern;

/// How a rule normalises requests. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Normaliser {
    /// The parameters of the query that are left out.
    pub(crate) ignore_query: Names,
    /// Whether the parameters of the query are sorted by name.
    pub(crate) sort_query: bool,
    /// The cookies that are left out.
    pub(crate) ignore_cookies: Names,
    /// The codings of which `Accept-Encoding` is reduced to the best. If there are none, it stays as it is.
    pub(crate) best_of: Vec<Coding>,
}

/// Names of parameters or of cookies: each exact, or with `*` at its end a prefix.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Names(Vec<Pattern>);

/// The parts of a request that change in its normal form.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Changes {
    target: Option<String>,
    /// A header that gets this one line, or is removed.
    lines: Vec<(HeaderName, Option<HeaderValue>)>,
}

impl Normaliser {
    /// Whether no request is changed.
    pub(crate) fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// The changes that bring a request into its normal form; `None` if it is normal already.
    pub(crate) fn changes(&self, question: &Question<'_>) -> Option<Changes> {
        let target = match self.query(question.query) {
            Cow::Borrowed(_) => None,
            Cow::Owned(query) if query.is_empty() => Some(question.path.to_owned()),
            Cow::Owned(query) => Some(format!("{}?{query}", question.path)),
        };
        let cookie = self.cookie(question).map(|line| (COOKIE, line));
        let encoding = self.encoding(question).map(|line| (ACCEPT_ENCODING, line));
        let changes = Changes { target, lines: cookie.into_iter().chain(encoding).collect() };
        (changes != Changes::default()).then_some(changes)
    }

    /// The normal form of a query. A piece without name and value is not a parameter.
    fn query<'q>(&self, query: &'q str) -> Cow<'q, str> {
        let is_kept = |piece: &&str| !piece.is_empty() && !self.ignore_query.contain(&parameter(piece));
        let is_sorted =
            || !self.sort_query || query.split('&').is_sorted_by(|a, b| parameter(a).le(parameter(b)));
        let is_untouched = query.is_empty() || self.ignore_query.is_empty() && !self.sort_query;
        if is_untouched || query.split('&').all(|piece| is_kept(&piece)) && is_sorted() {
            return Cow::Borrowed(query);
        }
        let mut kept: Vec<_> = query.split('&').filter(is_kept).collect();
        if self.sort_query {
            kept.sort_by(|a, b| parameter(a).cmp(parameter(b)));
        }
        Cow::Owned(kept.join("&"))
    }

    /// The line of the remaining cookies; `None` if all of them remain.
    fn cookie(&self, question: &Question<'_>) -> Option<Option<HeaderValue>> {
        let cookies = || {
            let lines = question.lines.get_all(&COOKIE);
            lines.flat_map(|line| line.split(|&byte| byte == b';')).map(<[u8]>::trim_ascii)
        };
        let is_ignored = |cookie: &[u8]| self.ignore_cookies.contain(&name(cookie, b'=').iter().copied());
        if self.ignore_cookies.is_empty() || !cookies().any(is_ignored) {
            return None;
        }
        let kept: Vec<_> = cookies().filter(|cookie| !cookie.is_empty() && !is_ignored(cookie)).collect();
        Some((!kept.is_empty()).then(|| HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok()).flatten())
    }

    /// The line with the best accepted coding; `None` if the client has sent just that.
    fn encoding(&self, question: &Question<'_>) -> Option<Option<HeaderValue>> {
        let mut sent = question.lines.get_all(&ACCEPT_ENCODING);
        let first = sent.next().filter(|_| !self.best_of.is_empty())?;
        let best =
            Coding::preferred(question.lines.get_all(&ACCEPT_ENCODING), &self.best_of).map(Coding::name);
        let is_normal = best.is_some_and(|best| best.as_bytes() == first) && sent.next().is_none();
        (!is_normal).then(|| best.map(HeaderValue::from_static))
    }
}

impl Changes {
    /// The normal form of a request.
    pub(crate) fn normal_form(self, sent: &Question<'_>) -> Parts {
        let mut normal = sent.to_parts();
        self.apply(&mut normal);
        normal
    }

    /// Gives a request its normal form.
    pub(crate) fn apply(self, request: &mut Parts) {
        if let Some(target) = self.target {
            set_target(request, &target);
        }
        for (name, line) in self.lines {
            match line {
                // The line takes the place of the first line of its name; the others go.
                Some(line) => drop(request.headers.insert(name, line)),
                None => retain(&mut request.headers, |other| *other != name),
            }
        }
    }
}

/// Gives a request this target. Some of its bytes may have no place in a `Uri`.
fn set_target(request: &mut Parts, target: &str) {
    let readable = SentTarget::stand_in(target);
    // This cannot fail: the target consists of pieces of a valid one.
    request.uri = Uri::try_from(&*readable).unwrap_or_default();
    request.extensions.remove::<SentTarget>();
    if readable != target {
        request.extensions.insert(SentTarget::from(target));
    }
}

impl Names {
    /// Reads patterns.
    pub(crate) fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self(texts.into_iter().map(Pattern::of).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contain(&self, name: &(impl Iterator<Item = u8> + Clone)) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name.clone()))
    }
}

/// The name of a parameter as the origin reads it (WHATWG URL, `application/x-www-form-urlencoded`), so that all spellings of
/// a name are equal.
fn parameter(piece: &str) -> impl Iterator<Item = u8> + Clone {
    percent_decode(name(piece.as_bytes(), b'=')).map(|byte| if byte == b'+' { b' ' } else { byte })
}

/// The text before the first separator, or all of it.
fn name(text: &[u8], separator: u8) -> &[u8] {
    text.split(|&byte| byte == separator).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use hyper::header::{HOST, HeaderMap};

    use super::*;
    use crate::request::target_of;

    fn all() -> Normaliser {
        Normaliser {
            ignore_query: Names::new(["utm_*", "gclid"]),
            sort_query: true,
            ignore_cookies: Names::new(["_ga*", "seen"]),
            best_of: Coding::ALL.to_vec(),
        }
    }

    /// The target and the lines of the normal form.
    fn normal(normaliser: &Normaliser, target: &str, lines: &[(&str, &str)]) -> (String, Vec<String>) {
        let mut request = Request::get(SentTarget::stand_in(target)).body(()).unwrap().into_parts().0;
        set_target(&mut request, target);
        for (name, value) in lines {
            request.headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let peer = server::Peer::LOCAL;
        if let Some(changes) = normaliser.changes(&Question::of_parts(&request, peer)) {
            changes.apply(&mut request);
        }
        assert_eq!(
            normaliser.changes(&Question::of_parts(&request, peer)),
            None,
            "the normal form is normal"
        );
        let lines =
            request.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        (target_of(&request.uri, &request.extensions).to_owned(), lines.collect())
    }

    #[test]
    fn ignored_parameters_are_left_out_and_the_others_sorted_by_name() {
        let sort = Normaliser { sort_query: true, ..Normaliser::default() };
        let ignore = Normaliser { ignore_query: Names::new(["utm_*", "gclid"]), ..Normaliser::default() };
        for (normaliser, target, expected) in [
            (&ignore, "/?b=1&utm_source=x&a=2&gclid=y&utm_", "/?b=1&a=2"),
            (&ignore, "/?utm_source=x", "/"),
            (&ignore, "/?utm%5Fsource=x&%67clid=1&a", "/?a"),
            (&ignore, "/?utm=1&gclid2=1&Gclid=1&xutm_a=1", "/?utm=1&gclid2=1&Gclid=1&xutm_a=1"),
            (&ignore, "/?a=utm_source&a=gclid", "/?a=utm_source&a=gclid"),
            (&ignore, "/?a=%7e&b=\"<>\"&gclid", "/?a=%7e&b=\"<>\""),
            (&ignore, "/?a=1&", "/?a=1"),
            (&ignore, "/?", "/?"),
            (&ignore, "/?=x", "/?=x"),
            (&sort, "/?b=2&a=1&b=1&a", "/?a=1&a&b=2&b=1"),
            (&sort, "/?a=2&%61=1&+=0", "/?+=0&a=2&%61=1"),
            (&sort, "/?b&&a&", "/?a&b"),
            (&sort, "/?a=1&b=2", "/?a=1&b=2"),
            (&sort, "//x/./y", "//x/./y"),
            (&all(), "/\"?b&gclid&a", "/\"?a&b"),
            (&Normaliser::default(), "/?b&&a&utm_x", "/?b&&a&utm_x"),
        ] {
            assert_eq!(normal(normaliser, target, &[]).0, expected, "{target}");
        }
        let everything = Normaliser { ignore_query: Names::new(["*"]), ..Normaliser::default() };
        assert_eq!(normal(&everything, "/a?b=c&d", &[]).0, "/a");
    }

    #[test]
    fn ignored_cookies_are_left_out_and_the_others_are_one_line() {
        for (sent, expected) in [
            (&["_ga=1; a=2; _gat_x=3"][..], &["a=2"][..]),
            (&["_ga=1"], &[]),
            (&["_ga"], &[]),
            (&["a=1;  b=2;"], &["a=1;  b=2;"]),
            (&["a=_ga;seen=1 ;b=\"x\"; "], &["a=_ga; b=\"x\""]),
            (&["a=1", "_ga=1; b=2"], &["a=1; b=2"]),
            (&["a=1", "b=2"], &["a=1", "b=2"]),
            (&["_g=1; Seen=2; seen2=3"], &["_g=1; Seen=2; seen2=3"]),
        ] {
            let lines: Vec<_> = sent.iter().map(|line| ("cookie", *line)).collect();
            let expected: Vec<_> = expected.iter().map(|line| format!("cookie: {line}")).collect();
            assert_eq!(normal(&all(), "/", &lines).1, expected, "{sent:?}");
        }
    }

    #[test]
    fn an_accept_encoding_is_the_best_coding_or_none() {
        for (sent, expected) in [
            (&["gzip, deflate, br, zstd"][..], Some("zstd")),
            (&["gzip", "br;q=0.5"], Some("gzip")),
            (&["gzip"], Some("gzip")),
            (&["deflate"], None),
            (&[], None),
        ] {
            let lines: Vec<_> = sent.iter().map(|line| ("accept-encoding", *line)).collect();
            let expected: Vec<_> =
                expected.map(|best| format!("accept-encoding: {best}")).into_iter().collect();
            assert_eq!(normal(&all(), "/", &lines).1, expected, "{sent:?}");
        }
    }

    #[test]
    fn the_other_lines_keep_their_order() {
        let sent =
            [("a", "1"), ("cookie", "_ga=1"), ("accept-encoding", "br, gzip"), ("b", "2"), ("host", "h")];
        let expected = ["a: 1", "accept-encoding: br", "b: 2", "host: h"];
        assert_eq!(normal(&all(), "/", &sent).1, expected);
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("h"))]);
        assert_eq!(all().changes(&Question::get("/", "", &headers)), None);
    }
}
