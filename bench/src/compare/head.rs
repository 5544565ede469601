//! Heads of requests as browsers send them: about 520 bytes, and no two are equal.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use rand::RngExt as _;
use rand::rngs::StdRng;

/// The Host of all requests, so that the pages of a case are the same on every server.
pub(crate) const SITE: &str = "shop.example";

/// A browser's engine: how its User-Agent ends, with `@` for the version, and its Accept.
struct Engine {
    agent: &'static str,
    accept: &'static str,
}

const CHROME: Engine = Engine {
    agent: "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/@.0.0.0 Safari/537.36",
    accept: "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
};
const FIREFOX: Engine = Engine {
    agent: "Gecko/20100101 Firefox/@.0",
    accept: "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8",
};
const SAFARI: Engine = Engine {
    agent: "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.@ Safari/605.1.15",
    accept: "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
};

/// The browsers of a site's visitors, half of them with Chrome's engine.
const BROWSERS: [(&str, &Engine); 8] = [
    ("Windows NT 10.0; Win64; x64", &CHROME),
    ("Macintosh; Intel Mac OS X 10_15_7", &CHROME),
    ("X11; Linux x86_64", &CHROME),
    ("Linux; Android 10; K", &CHROME),
    ("Windows NT 10.0; Win64; x64; rv:@.0", &FIREFOX),
    ("X11; Linux x86_64; rv:@.0", &FIREFOX),
    ("Macintosh; Intel Mac OS X 10_15_7", &SAFARI),
    ("iPhone; CPU iPhone OS 18_5 like Mac OS X", &SAFARI),
];

const LANGUAGES: [&str; 5] =
    ["en-US,en;q=0.9", "de-DE,de;q=0.9", "fr-FR,fr;q=0.9", "en-GB,en;q=0.7", "nl,en;q=0.6"];

/// The cookies of visitors who are not logged in.
const SHARED_COOKIES: [&str; 4] =
    ["", "Cookie: consent=all\r\n", "Cookie: consent=necessary\r\n", "Cookie: consent=all; theme=dark\r\n"];

/// The cookies that visitors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cookies {
    /// Every visitor has a session and a token of their own.
    Own,
    /// Every visitor has one of four sets, so that pages that vary on Cookie have hits.
    Shared,
}

/// The head of a request without its first line.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// From Host to the blank line.
    pub(crate) lines: String,
    /// Accept and Cookie, the headers that pages may vary on.
    pub(crate) variant: String,
}

impl Head {
    /// The head of one visitor. The number is part of it, so no two visitors have the same.
    pub(crate) fn of_visitor(number: usize, cookies: Cookies, random: &mut StdRng) -> Self {
        let (platform, engine) = BROWSERS[random.random_range(0..BROWSERS.len())];
        let version = random.random_range(100..140).to_string();
        let agent = format!("Mozilla/5.0 ({platform}) {}", engine.agent).replace('@', &version);
        let accept = engine.accept;
        let language = LANGUAGES[random.random_range(0..LANGUAGES.len())];
        let cookie = match cookies {
            Cookies::Own => own_cookies(random),
            Cookies::Shared => SHARED_COOKIES[random.random_range(0..SHARED_COOKIES.len())].to_owned(),
        };
        let lines = format!(
            "Host: {SITE}\r\n\
             User-Agent: {agent}\r\n\
             Accept: {accept}\r\n\
             Accept-Language: {language}\r\n\
             Accept-Encoding: gzip, deflate, br\r\n\
             Referer: https://{SITE}/search?q={number}\r\n\
             Connection: keep-alive\r\n\
             {cookie}\
             Sec-Fetch-Mode: navigate\r\n\r\n"
        );
        Self { lines, variant: format!("{accept}{cookie}") }
    }

    /// The headers but Host and Connection, which belong to the client.
    pub(crate) fn headers(&self) -> HeaderMap {
        let lines = self.lines.lines().filter_map(|line| line.split_once(": "));
        let lines = lines.filter(|(name, _)| !matches!(*name, "Host" | "Connection"));
        lines
            .filter_map(|(name, value)| {
                Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?))
            })
            .collect()
    }
}

/// The cookies of Django and of an analytics script.
fn own_cookies(random: &mut StdRng) -> String {
    let (session, token): (u128, u128) = (random.random(), random.random());
    let visitor: u32 = random.random();
    format!("Cookie: sessionid={session:032x}; csrftoken={token:032x}; _ga={visitor:010}\r\n")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng as _;

    use super::*;

    fn heads(cookies: Cookies) -> Vec<Head> {
        let mut random = StdRng::seed_from_u64(1);
        (0..30_000).map(|number| Head::of_visitor(number, cookies, &mut random)).collect()
    }

    #[test]
    fn no_two_heads_are_alike_and_they_are_as_long_as_those_of_browsers() {
        let heads = heads(Cookies::Own);
        let distinct: HashSet<_> = heads.iter().map(|head| &head.lines).collect();
        let cookies: HashSet<_> = heads.iter().map(|head| &head.variant).collect();
        assert_eq!((distinct.len(), cookies.len()), (30_000, 30_000));
        let mean = heads.iter().map(|head| head.lines.len()).sum::<usize>() / heads.len();
        let mean = mean + "GET /page HTTP/1.1\r\n".len();
        assert!((510..=530).contains(&mean), "{mean}");
    }

    #[test]
    fn shared_cookies_and_accepts_make_twelve_variants() {
        let heads = heads(Cookies::Shared);
        let distinct: HashSet<_> = heads.iter().map(|head| &head.lines).collect();
        let variants: HashSet<_> = heads.iter().map(|head| &head.variant).collect();
        assert_eq!((distinct.len(), variants.len()), (30_000, 12));
    }

    #[test]
    fn a_head_ends_with_its_only_blank_line() {
        for head in heads(Cookies::Shared).iter().chain(&heads(Cookies::Own)) {
            assert_eq!(head.lines.find("\r\n\r\n"), Some(head.lines.len() - 4), "{}", head.lines);
        }
    }
}
