//! The keys of real Django, byte for byte, as Django's `utils/cache.py` makes them.
//!
//! ```text
//! :1:views.decorators.cache.cache_header..MD5(URI).en-us.UTC             the names of the headers the page varies on
//! :1:views.decorators.cache.cache_page..GET.MD5(URI).MD5(VALUES).en-us.UTC   the page for their values
//! ```

mod digest;
mod locale;
mod uri;
mod zone;

use std::sync::Arc;

use hyper::header::{AUTHORIZATION, CONTENT_LANGUAGE, HeaderMap, HeaderValue, VARY};

pub use digest::Generation;
use digest::meta_value;
pub use locale::Locale;
use md5::{Digest as _, Md5};
use uri::Address;

use super::{Hashed, KeyText};
use crate::policy::{Authorization, Rule, has_authorization};
use crate::request::receive::X_FORWARDED_HOST;
use crate::request::{Lines, Question};
use crate::text::{hex, sha256_hex};

/// The settings of the Django that shares the cache, as far as its keys depend on them.
#[derive(Clone, Debug)]
pub struct Django {
    /// The generation of its release.
    pub generation: Generation,
    /// `KEY_PREFIX` of the cache.
    pub key_prefix: String,
    /// `VERSION` of the cache.
    pub version: u32,
    /// The choice of the language; `None` with `USE_I18N = False`.
    pub language: Option<Language>,
    /// `TIME_ZONE`; `None` with `USE_TZ = False`.
    pub time_zone: Option<String>,
    /// `FORCE_SCRIPT_NAME`.
    pub script_name: String,
    /// `USE_X_FORWARDED_HOST`.
    pub use_x_forwarded_host: bool,
}

/// How Django chooses the language of a page.
#[derive(Clone, Debug)]
pub enum Language {
    /// `LANGUAGE_CODE`.
    Fixed(String),
    /// `LocaleMiddleware`.
    Negotiated(Locale),
}

/// The parts of a request's keys. The URI is hashed once for both keys.
#[derive(Clone, Debug)]
pub(crate) struct DjangoId {
    django: Arc<Django>,
    uri: String,
    uri_digest: [u8; 32],
    language: Option<String>,
    /// The credentials, if the rule varies on them.
    authorization: Option<Vec<u8>>,
}

impl DjangoId {
    pub(crate) fn of(question: &Question<'_>, rule: &Rule, django: &Arc<Django>) -> Self {
        let lines = question.lines;
        let uri = django.address(question).uri();
        let mut uri_digest = [0; 32];
        hex(&Md5::digest(&uri), &mut uri_digest);
        let language = django.language.as_ref().map(|language| match language {
            Language::Fixed(code) => code.clone(),
            Language::Negotiated(locale) => locale.negotiate(lines).into_owned(),
        });
        let apart = rule.authorization == Authorization::Vary && has_authorization(lines);
        let authorization = lines.get(&AUTHORIZATION).filter(|_| apart).map(<[u8]>::to_vec);
        Self { django: django.clone(), uri, uri_digest, language, authorization }
    }

    /// The key of the list of headers (`_generate_cache_header_key`).
    pub(crate) fn header_key(&self, rule: &Rule) -> KeyText {
        self.key("header", &[rule.key_prefix.as_bytes(), b".", &self.uri_digest])
    }

    /// The key of the page for the values of these headers (`_generate_cache_key`).
    pub(crate) fn page_key(&self, rule: &Rule, method: &str, list: &[String], lines: Lines<'_>) -> KeyText {
        let mut values = [0; 32];
        hex(&self.django.generation.digest(list, lines), &mut values);
        let prefix = rule.key_prefix.as_bytes();
        let parts = [prefix, b".", method.as_bytes(), b".", &self.uri_digest, b".", &values];
        self.key("page", &parts)
    }

    fn key(&self, kind: &str, parts: &[&[u8]]) -> KeyText {
        let mut key = KeyText::from_vec(self.django.prefix());
        key.extend_from_slice(kind.as_bytes());
        key.push(b'.');
        parts.iter().for_each(|part| key.extend_from_slice(part));
        let zone = self.django.time_zone.as_deref().map(zone::key_name);
        for suffix in [self.language.as_deref(), zone.as_deref()].into_iter().flatten() {
            key.push(b'.');
            key.extend_from_slice(suffix.as_bytes());
        }
        key
    }

    /// The texts that are digested in the header key or, with a list, in the page key.
    pub(crate) fn hashed(&self, list: Option<&[String]>, lines: Lines<'_>) -> Vec<Hashed> {
        let uri = Hashed::new("URI", self.uri.as_bytes());
        let values = list.map(|list| Hashed::new("values", &self.django.generation.hashed(list, lines)));
        [Some(uri), values].into_iter().flatten().collect()
    }

    /// The proof that one of the proxy's entries was stored for this very request: Django's digests can be made to collide. It
    /// covers the URI and the values of all headers in the page's `Vary`, without `Accept-Language` if the language in the key
    /// was negotiated from it.
    pub(crate) fn proof(&self, page: &HeaderMap, lines: Lines<'_>) -> [u8; 64] {
        let mut text = self.uri.clone().into_bytes();
        let negotiated = matches!(self.django.language, Some(Language::Negotiated(_)));
        let list = digest::header_list(&page_vary(page), Generation::Netstrings, negotiated);
        for name in list {
            text.extend_from_slice(b"\n");
            text.extend_from_slice(name.as_bytes());
            if let Some(value) = meta_value(&name, lines) {
                text.push(b':');
                text.extend_from_slice(&value);
            }
        }
        if let Some(value) = &self.authorization {
            text.extend_from_slice(b"\nauthorization ");
            text.extend_from_slice(value);
        }
        sha256_hex(&text)
    }

    /// Adds the headers of `LocaleMiddleware`, if the site has it.
    pub(crate) fn add_language(&self, page: &mut HeaderMap) {
        let (Some(Language::Negotiated(_)), Some(language)) = (&self.django.language, &self.language) else {
            return;
        };
        if let Ok(language) = HeaderValue::from_str(language) {
            page.entry(CONTENT_LANGUAGE).or_insert(language);
        }
        let vary = page_vary(page);
        let names = || vary.split(',').map(str::trim).filter(|name| !name.is_empty());
        if names().any(|name| name == "*" || name.eq_ignore_ascii_case("accept-language")) {
            return;
        }
        let all: Vec<_> = names().chain(["Accept-Language"]).collect();
        if let Ok(vary) = HeaderValue::from_str(&all.join(", ")) {
            page.insert(VARY, vary);
        }
    }

    /// The list of headers that Django learns from a page (`learn_cache_key`).
    pub(crate) fn header_list(&self, page: &HeaderMap) -> Option<Vec<String>> {
        let redundant = self.django.language.is_some();
        page.contains_key(VARY)
            .then(|| digest::header_list(&page_vary(page), self.django.generation, redundant))
    }
}

/// All `Vary` lines joined to one, as in Django.
fn page_vary(page: &HeaderMap) -> String {
    let lines: Vec<_> = page.get_all(VARY).iter().filter_map(|line| line.to_str().ok()).collect();
    lines.join(", ")
}

impl Django {
    /// The prefix that both keys share.
    pub(super) fn prefix(&self) -> Vec<u8> {
        format!("{}:{}:views.decorators.cache.cache_", self.key_prefix, self.version).into_bytes()
    }

    fn address<'a>(&'a self, question: &Question<'a>) -> Address<'a> {
        let forwarded_host = question.lines.get(&X_FORWARDED_HOST).filter(|_| self.use_x_forwarded_host);
        Address {
            scheme: question.scheme,
            host: forwarded_host.unwrap_or(question.authority),
            script_name: &self.script_name,
            path: question.path,
            query: question.query,
        }
    }
}

/// Whether the proxy can use a list: it names only headers, and not `X-Forwarded-For`, which the proxy itself sets for each
/// client.
pub(crate) fn is_usable(list: &[String]) -> bool {
    list.iter().all(|name| name.starts_with("HTTP_") && name != "HTTP_X_FORWARDED_FOR")
}

#[cfg(test)]
mod tests {
    use hyper::header::HOST;
    use serde_json::Value;

    use super::*;

    /// The test vectors of real Django: those of this repository and, if present, more beside it.
    fn vectors() -> Vec<Value> {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/django/keys.json");
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/django-reference/keys.json");
        let files = [here, beside].map(|file| std::fs::read_to_string(file).ok());
        assert!(files[0].is_some(), "{here}");
        files
            .into_iter()
            .flatten()
            .flat_map(|text| serde_json::from_str::<Vec<Value>>(&text).unwrap())
            .collect()
    }

    fn text(value: &Value) -> &str {
        value.as_str().unwrap_or_default()
    }

    /// The languages of the site in the vectors, a part of django.conf.global_settings.LANGUAGES.
    const LANGUAGES: [&str; 10] =
        ["de", "en", "en-au", "en-gb", "es", "fr", "pt", "pt-br", "zh-hans", "zh-hant"];

    fn django(settings: &Value) -> Django {
        let code = text(&settings["LANGUAGE_CODE"]).to_owned();
        let language = match settings["LocaleMiddleware"] == true {
            true => Language::Negotiated(Locale {
                languages: LANGUAGES.map(str::to_owned).to_vec(),
                default: code,
                cookie: "django_language".to_owned(),
            }),
            false => Language::Fixed(code),
        };
        Django {
            generation: Generation::JoinedMarked,
            key_prefix: text(&settings["KEY_PREFIX"]).to_owned(),
            version: settings["VERSION"].as_u64().unwrap().try_into().unwrap(),
            language: (settings["USE_I18N"] == true).then_some(language),
            time_zone: (settings["USE_TZ"] == true).then(|| text(&settings["TIME_ZONE"]).to_owned()),
            script_name: text(&settings["FORCE_SCRIPT_NAME"]).to_owned(),
            use_x_forwarded_host: settings["USE_X_FORWARDED_HOST"] == true,
        }
    }

    fn printed(key: &KeyText) -> String {
        String::from_utf8(key.to_vec()).unwrap()
    }

    fn headers(request: &Value, uri: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // Without a Host, Django takes the server's own address; the proxy takes its site.
        let host = request["host"].as_str().unwrap_or_else(|| uri.split('/').nth(2).unwrap());
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        for pair in request["headers"].as_array().unwrap() {
            let bytes: Vec<u8> =
                text(&pair[1]).chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
            let name: hyper::header::HeaderName = text(&pair[0]).parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(&bytes).unwrap());
        }
        headers
    }

    fn page(vary: &Value) -> HeaderMap {
        let vary = vary.as_str().map(|vary| (VARY, HeaderValue::from_str(vary).unwrap()));
        vary.into_iter().collect()
    }

    /// Skips the vectors without keys: methods other than GET and HEAD, a `*` in Vary, and targets that a server refuses.
    #[test]
    fn keys_are_those_of_real_django() {
        let mut checked = 0;
        for case in vectors().iter().filter(|case| case["stored"] == true) {
            let (name, settings, request) = (&case["name"], &case["settings"], &case["request"]);
            let prefixes = ["cache_page_key_prefix", "CACHE_MIDDLEWARE_KEY_PREFIX"];
            // This setting applies only to the site-wide middleware.
            let count = if settings["sitewide_cache_middleware"] == true { 2 } else { 1 };
            let prefix = prefixes[..count].iter().map(|name| text(&settings[name])).collect::<String>();
            let rule = Rule { key_prefix: prefix, ..Rule::new("/*", 60).unwrap() };
            let django = Arc::new(django(settings));
            let headers = headers(request, text(&case["hashed"]["uri"]));
            // hyper refuses some raw characters in a query: for these, the parts come from the vector.
            let uri = text(&request["target"]).parse::<hyper::Uri>();
            let (path, query) = match &uri {
                Ok(uri) => (uri.path(), uri.query().unwrap_or_default()),
                Err(_) => (text(&request["path"]), text(&request["query"])),
            };
            let id = DjangoId::of(&Question::get(path, query, &headers), &rule, &django);
            assert_eq!(id.uri, text(&case["hashed"]["uri"]), "{name}");
            assert_eq!(printed(&id.header_key(&rule)), text(&case["header_key"]), "{name}");
            let list = id.header_list(&page(&case["vary"])).unwrap_or_default();
            assert_eq!(serde_json::json!(list), case["header_list"], "{name}");
            let key = printed(&id.page_key(&rule, text(&request["method"]), &list, Lines::Map(&headers)));
            assert_eq!(key, text(&case["page_key"]), "{name}");
            if let Some(before) = case["django_4_2_30"]["page_key"].as_str() {
                let older = Django { generation: Generation::Joined, ..(*django).clone() };
                let id = DjangoId::of(&Question::get(path, query, &headers), &rule, &older.into());
                let key = printed(&id.page_key(&rule, text(&request["method"]), &list, Lines::Map(&headers)));
                assert_eq!(key, before, "{name} on 4.2.30");
            }
            checked += 1;
        }
        assert!(checked >= 125, "{checked}");
    }

    #[test]
    fn a_proof_differs_where_the_digests_collide() {
        let django = Arc::new(django(&serde_json::json!({
            "VERSION": 1, "LANGUAGE_CODE": "en-us", "USE_I18N": true, "USE_TZ": true, "TIME_ZONE": "UTC",
        })));
        let rule = Rule::new("/*", 60).unwrap();
        let vary = page(&Value::from("X-A, X-B"));
        let proof = |pairs: &[(&'static str, &'static str)]| {
            let headers: HeaderMap = pairs
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
                .collect();
            let id = DjangoId::of(&Question::get("/p/", "", &headers), &rule, &django);
            let list = id.header_list(&vary).unwrap();
            (id.page_key(&rule, "GET", &list, Lines::Map(&headers)), id.proof(&vary, Lines::Map(&headers)))
        };
        let (key, one) = proof(&[("x-a", "1"), ("x-b", "23")]);
        let (same_key, other) = proof(&[("x-a", "12"), ("x-b", "3")]);
        assert!(key == same_key && one != other);
        assert_eq!(proof(&[("x-a", "1"), ("x-b", "23"), ("x-c", "4")]).1, one);
    }

    #[test]
    fn a_list_is_usable_only_if_it_names_headers() {
        for (list, usable) in [
            (&[][..], true),
            (&["HTTP_ACCEPT", "HTTP_ ODD", "HTTP_"][..], true),
            (&["REMOTE_ADDR"], false),
            (&["HTTP_X_FORWARDED_FOR"], false),
        ] {
            assert_eq!(is_usable(&list.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()), usable);
        }
    }
}
