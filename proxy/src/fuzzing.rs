//! Properties that hold for any input. The targets in `fuzz/` look for input that violates them; the test here replays
//! their corpus.

mod http;

use std::sync::Arc;

use bytes::Bytes;
use clap::Parser as _;
use hyper::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, COOKIE, ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE, VARY,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};

use server::Peer;

use crate::key::{Django, Generation, Keys, Language, PageId, PathMarker, Placement};
use crate::page::entry::Entry;
use crate::page::format::{Format, http as readable};
use crate::page::forms::Forms;
use crate::page::stored::StoredPage;
use crate::policy::{self, CacheControl, Part, Rule, SearchVariance, Variance, VaryList, parse_any_day};
use crate::request::{Coding, Lines, Names, Normaliser, Question};
use crate::status::{CacheStatus, Hit, Source};
use crate::store::replies_in;
use crate::text::title_case;
use crate::{Args, Config, Site};

pub use http::{admission, dates, selecting, wishes};

/// A stored value is an entry, a marker or neither. A decoded entry that is encoded again decodes to the same entry.
pub fn entry(value: &[u8]) {
    let value = Bytes::copy_from_slice(value);
    let _ = Format::Http.base(&value);
    if let Some(entry) = Format::Http.decode(&value) {
        let written = readable::encode(&entry);
        let again = Format::Http.decode(&written).expect("what was written is an entry");
        assert_eq!(again.body, entry.body);
        assert_eq!(readable::encode(&again), written);
        (1..=written.len())
            .for_each(|end| assert!(Format::Http.decode(&written.slice(..written.len() - end)).is_none()));
    }
    if let Some(marker) = PathMarker::decode(&value) {
        assert_eq!(PathMarker::decode(&marker.encode()), Some(marker));
    }
}

/// Takes lines of `Cache-Control`, then one of `Expires`. The age of a page with them can be computed, and the proxy writes
/// its head as hyper would.
pub fn cache_control(text: &[u8]) {
    let mut lines: Vec<_> = lines(text).collect();
    let expires = lines.pop();
    let mut headers: HeaderMap = lines.into_iter().map(|line| (CACHE_CONTROL, line)).collect();
    let mut control = CacheControl::of(&headers);
    control.lower_max_age(60);
    assert!(control.max_age().is_some_and(|age| age <= 60));
    if let Some(line) = control.to_header() {
        let written = HeaderMap::from_iter([(CACHE_CONTROL, line)]);
        assert_eq!(CacheControl::of(&written).max_age(), control.max_age());
    }
    if let Some(expires) = expires {
        let _ = expires.to_str().map(parse_any_day);
        headers.insert(EXPIRES, expires);
    }
    answered_in_both_ways_alike(headers);
}

fn entry_of(headers: HeaderMap) -> Entry {
    Entry {
        status: StatusCode::OK,
        headers,
        reason: None,
        body: Bytes::from_static(b"page"),
        forms: Forms::default(),
        expires: Some(1_800_000_000),
        born: Some(1_799_999_000),
        version: None,
        cost: std::time::Duration::ZERO,
        proof: None,
        stamp: None,
    }
}

fn answered_in_both_ways_alike(headers: HeaderMap) {
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_799_999_990);
    let page = StoredPage::from(entry_of(headers));
    let cache = CacheStatus::Hit(Hit::Fresh, Source::Near, page.ttl(now));
    let head = page.write_head(now, cache, &Part::Whole);
    let response = page.response(now, cache, &Part::Whole);
    let mut written = b"HTTP/1.1 200 OK\r\n".to_vec();
    for (name, value) in response.headers() {
        written.extend(title_case(name.as_str()));
        written.extend_from_slice(&[b": ", value.as_bytes(), b"\r\n"].concat());
    }
    assert_eq!(head, written);
}

/// The names in `Vary` lines are sorted, and read back from a marker unchanged.
pub fn vary(text: &[u8]) {
    let headers: HeaderMap = lines(text).map(|line| (VARY, line)).collect();
    let Ok(vary) = VaryList::of(&headers) else { return };
    assert!(vary.names().is_sorted_by(|a, b| a.as_str() < b.as_str()));
    assert_eq!(VaryList::from_names(vary.names().to_vec()), Ok(vary.clone()));
    if !vary.is_empty() {
        let marker = PathMarker::new(vary.into(), 7);
        assert_eq!(PathMarker::decode(&marker.encode()), Some(marker));
    }
}

/// Takes a `No-Vary-Search`, then queries. The field reads back from a marker unchanged, and the selecting parameters of a
/// query have one spelling.
pub fn search(text: &[u8]) {
    let mut lines = text.split(|&byte| byte == b'\n');
    let Some(search) = lines.next().and_then(SearchVariance::parse) else { return };
    assert_eq!(SearchVariance::parse(search.to_string().as_bytes()), Some(search.clone()));
    let variance = Variance { search: search.clone(), ..Variance::default() };
    if !variance.is_none() {
        let marker = PathMarker::new(variance, 7);
        assert_eq!(PathMarker::decode(&marker.encode()), Some(marker));
    }
    for query in lines.filter_map(|line| std::str::from_utf8(line).ok()) {
        let simplified = search.simplified(query);
        assert_eq!(search.simplified(&simplified), simplified);
        assert!(simplified.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}

/// Takes two requests, separated by an empty line, each a target and then headers. The same request has the same key; keys
/// have no blanks and no control characters; and two readable keys are equal only if the proofs are.
pub fn key(text: &[u8]) {
    let Some(middle) = text.windows(2).position(|pair| pair == b"\n\n") else { return };
    let (Some(one), Some(other)) = (request(&text[..middle]), request(&text[middle + 2..])) else { return };
    let site = Site::localhost(8000);
    let Ok(rule) = Rule::new("/*", 60) else { return };
    let peer = Peer::LOCAL;
    let (one, other) = (Question::of_parts(&one, peer), Question::of_parts(&other, peer));
    for keys in all_keys() {
        let pages = [&one, &other].map(|question| PageId::of(question, &rule, &keys, &site));
        assert_eq!(pages[0].key(), PageId::of(&one, &rule, &keys, &site).key());
        for page in &pages {
            assert!(
                page.key_text().iter().all(|byte| !byte.is_ascii_control() && *byte != b' '),
                "{}",
                page.key()
            );
        }
        if let (Keys::Path(_), [a, b]) = (&keys, &pages) {
            let none = HeaderMap::new();
            let proofs = [a.proof(&none, &one), b.proof(&none, &other)];
            assert_eq!(a.key() == b.key(), proofs[0] == proofs[1]);
        }
    }
}

fn all_keys() -> Vec<Keys> {
    let django = |generation, language| {
        Keys::Django(Arc::new(Django {
            generation,
            key_prefix: String::new(),
            version: 1,
            language,
            time_zone: Some("Europe/Berlin".to_owned()),
            script_name: String::new(),
            use_x_forwarded_host: true,
        }))
    };
    vec![
        Keys::Path(Placement::Anywhere),
        django(Generation::JoinedMarked, None),
        django(Generation::NetstringsMarked, Some(Language::Fixed("de".to_owned()))),
    ]
}

/// Takes a target and then headers. Their normal form is already normal, has the same path, names nothing that is ignored, and
/// selects the same page as another spelling of the same request.
pub fn normalise(text: &[u8]) {
    let Some(mut request) = request(text) else { return };
    let normaliser = Normaliser {
        ignore_query: Names::new(["utm_*", "gclid"]),
        sort_query: true,
        ignore_cookies: Names::new(["_ga*"]),
        best_of: Coding::ALL.to_vec(),
    };
    let peer = Peer::LOCAL;
    let path = Question::of_parts(&request, peer).path.to_owned();
    if let Some(changes) = normaliser.changes(&Question::of_parts(&request, peer)) {
        changes.apply(&mut request);
    }
    let normal = Question::of_parts(&request, peer);
    assert_eq!(normaliser.changes(&normal), None);
    assert_eq!(normal.path, path);
    assert!(normal.query.split('&').all(|piece| !piece.starts_with("utm_") && piece != "gclid"));
    let cookies = normal.lines.get_all(&COOKIE).flat_map(|line| line.split(|&byte| byte == b';'));
    cookies.for_each(|cookie| assert!(!cookie.trim_ascii_start().starts_with(b"_ga")));
    let codings: Vec<_> = normal.lines.get_all(&ACCEPT_ENCODING).collect();
    assert!(
        codings.len() < 2 && codings.iter().all(|coding| [&b"zstd"[..], b"br", b"gzip"].contains(coding))
    );
}

/// Takes lines: `ETag` and `Last-Modified` of a page of ten bytes; then `Range`, `If-Range`, `If-Modified-Since` and any
/// number of `If-None-Match`. The request selects a part of the page, the same with and without hyper.
pub fn part(text: &[u8]) {
    let mut lines = lines(text);
    let page = [ETAG, LAST_MODIFIED].into_iter().zip(lines.by_ref()).collect();
    let mut request: HeaderMap =
        [RANGE, IF_RANGE, IF_MODIFIED_SINCE].into_iter().zip(lines.by_ref()).collect();
    request.extend(lines.map(|line| (Some(IF_NONE_MATCH), line)));
    let page = StoredPage::from(Entry { body: Bytes::from_static(b"0123456789"), ..entry_of(page) });
    for method in [Method::GET, Method::HEAD] {
        let part = page.part(&method, Lines::Map(&request));
        match &part {
            Part::Whole => {}
            Part::NotModified => assert!(policy::is_conditional(&request)),
            Part::Bytes(range) => {
                assert!(method == Method::GET && range.start < range.end && range.end <= 10)
            }
            Part::Unsatisfiable => assert_eq!(method, Method::GET),
        }
        let bytes = page.clone().bytes(&part);
        let response = page.response(std::time::UNIX_EPOCH, CacheStatus::Failed("none"), &part);
        assert_eq!(bytes.as_ref(), &response.body()[..]);
    }
}

/// Replies of Redis are read the same however their bytes are split, and no value is longer than the limit.
pub fn replies(bytes: &[u8]) {
    const LIMIT: usize = 100;
    let whole = replies_in(bytes, bytes.len().max(1), LIMIT);
    for piece in [1, 7] {
        assert_eq!(replies_in(bytes, piece, LIMIT), whole);
    }
}

/// A file of settings is a configuration, or is refused with faults.
pub fn config(text: &[u8]) {
    /// Longer input would only test how the TOML parser handles large files.
    const LONGEST: usize = 4096;
    let (Ok(text), true) = (std::str::from_utf8(text), text.len() <= LONGEST) else { return };
    let Ok(args) = Args::try_parse_from(["proxy"]) else { return };
    if let Err(faults) = Config::parse(&args, Some(("fuzz.toml", text))) {
        assert!(!faults.to_string().is_empty());
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = HeaderValue> {
    text.split(|&byte| byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok())
}

fn request(text: &[u8]) -> Option<Parts> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let target = lines.next().filter(|target| target.starts_with(b"/"))?;
    let mut request = Request::builder().uri(target).body(()).ok()?.into_parts().0;
    for line in lines {
        let at = line.iter().position(|&byte| byte == b':')?;
        let name = HeaderName::from_bytes(&line[..at]).ok()?;
        request.headers.append(name, HeaderValue::from_bytes(line[at + 1..].trim_ascii()).ok()?);
    }
    Some(request)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_fuzzing_corpus_violates_no_property() {
        type Target = fn(&[u8]);
        let targets: [(&str, Target); 13] = [
            ("entry", entry),
            ("cache_control", cache_control),
            ("vary", vary),
            ("search", search),
            ("key", key),
            ("config", config),
            ("normalise", normalise),
            ("part", part),
            ("replies", replies),
            ("admission", admission),
            ("wishes", wishes),
            ("dates", dates),
            ("selecting", selecting),
        ];
        for (name, target) in targets {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
            let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
            let count = files.map(|file| target(&fs::read(file.unwrap().path()).unwrap())).count();
            assert!(count > 0, "{name}");
        }
    }
}
