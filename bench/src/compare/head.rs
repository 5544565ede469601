//! Heads of requests as browsers send them: some 520 bytes, and no two alike.

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

/// The site that is asked for, whatever address its server has.
pub(crate) const SITE: &str = "shop.example";

/// What a browser is known by. `@` stands for a version.
struct Browser {
    agent: &'static str,
    accept: &'static str,
}

/// What Chrome says it accepts.
const CHROME: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
/// What Firefox says.
const FIREFOX: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8";
/// What Safari says.
const SAFARI: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// A site's visitors: eight agents with three Accepts between them.
const BROWSERS: [Browser; 8] = [
    Browser {
        agent: "(Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/@.0.0.0 Safari/537.36",
        accept: CHROME,
    },
    Browser {
        agent: "(Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/@.0.0.0 Safari/537.36",
        accept: CHROME,
    },
    Browser {
        agent: "(Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/@.0.0.0 Mobile Safari/537.36",
        accept: CHROME,
    },
    Browser {
        agent: "(Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/@.0.0.0 Safari/537.36 Edg/@.0.0.0",
        accept: CHROME,
    },
    Browser { agent: "(Windows NT 10.0; Win64; x64; rv:@.0) Gecko/20100101 Firefox/@.0", accept: FIREFOX },
    Browser { agent: "(X11; Linux x86_64; rv:@.0) Gecko/20100101 Firefox/@.0", accept: FIREFOX },
    Browser {
        agent: "(iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.@ Mobile/15E148 Safari/604.1",
        accept: SAFARI,
    },
    Browser {
        agent: "(Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.@ Safari/605.1.15",
        accept: SAFARI,
    },
];

const LANGUAGES: [&str; 5] =
    ["en-US,en;q=0.9", "de-DE,de;q=0.9,en;q=0.8", "fr-FR,fr;q=0.9", "en-GB,en;q=0.7", "nl,en;q=0.6"];

/// The Cookie of a visitor who has not logged in: few kinds, so that pages that vary on it have hits.
const CONSENTS: [&str; 4] = ["", "consent=all", "consent=necessary", "consent=all; theme=dark"];

/// What cookies visitors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cookies {
    /// Each their own, as where they log in or are counted.
    Own,
    /// One of four kinds, as on a page that varies on Cookie and is cached all the same.
    Shared,
}

/// The head of a request without its first line.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// From Host to the blank line.
    pub(crate) lines: String,
    /// Its Accept and Cookie: what the pages of these loads vary on, if they do.
    pub(crate) variant: String,
}

impl Head {
    /// The head of the visitor with this number, which is in it: no two visitors have the same.
    pub(crate) fn of_visitor(number: usize, cookies: Cookies, random: &mut StdRng) -> Self {
        let browser = &BROWSERS[random.random_range(0..BROWSERS.len())];
        let agent = browser.agent.replace('@', &random.random_range(100..140).to_string());
        let cookie = match cookies {
            Cookies::Own => own_cookie(random),
            Cookies::Shared => one_of(&CONSENTS, random).to_owned(),
        };
        let accept = browser.accept;
        let language = one_of(&LANGUAGES, random);
        let cookie_line = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
        let lines = format!(
            "Host: {SITE}\r\n\
             User-Agent: Mozilla/5.0 {agent}\r\n\
             Accept: {accept}\r\n\
             Accept-Language: {language}\r\n\
             Accept-Encoding: gzip, deflate, br\r\n\
             Referer: https://{SITE}/search?q={number}\r\n\
             Connection: keep-alive\r\n\
             {cookie_line}\
             Sec-Fetch-Mode: navigate\r\n\
             Sec-Fetch-Site: same-origin\r\n\r\n"
        );
        Self { lines, variant: format!("{accept}{cookie_line}") }
    }
}

/// The cookies of Django's session and of an analytics script.
fn own_cookie(random: &mut StdRng) -> String {
    let (session, token): (u128, u128) = (random.random(), random.random());
    let visitor: u32 = random.random();
    format!("sessionid={session:032x}; csrftoken={token:032x}; _ga=GA1.1.{visitor:010}")
}

fn one_of(all: &[&'static str], random: &mut StdRng) -> &'static str {
    all.choose(random).copied().unwrap_or_default()
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
        assert!((480..=560).contains(&mean), "{mean}");
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
