//! The loads: requests for pages, prepared for wrk.

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tempfile::NamedTempFile;

use super::head::{Cookies, Head, SITE};
use super::yardstick::VALIDATED;
use super::zipf::Zipf;

/// A site's visitors, each with its own head. The heads take 16 MB, more than a CPU's cache or any cache of heads holds.
const VISITORS: usize = 30_000;

/// The requests that wrk repeats. Each visitor makes four, for different pages; of 10,000 pages they ask for 8,700.
const REQUESTS: usize = 4 * VISITORS;

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Pages of a site by Zipf's law, with the heads of many browsers.
    ///
    /// Pages that vary do so on Accept and Cookie. The visitors then have three Accepts and four Cookies between them,
    /// which makes twelve variants of a page; their User-Agent and Referer still differ. If every visitor had its own cookie, such
    /// a page would have no hits to measure.
    Site { pages: usize, varies: bool },
    /// One page with validators, asked for with these lines and the heads of many browsers.
    Part(&'static str),
    /// One page and one short head, repeated.
    Repeated,
    /// One page that is not cached, and one short head, repeated.
    Pass,
    /// Each request is for a page that no cache has yet.
    NewPages,
}

impl Load {
    /// Whether a filled cache answers this load without the origin.
    pub(crate) fn has_hits(self) -> bool {
        matches!(self, Self::Site { .. } | Self::Part(_) | Self::Repeated)
    }

    fn requests(self) -> Vec<Request> {
        match self {
            Self::Site { pages, varies } => site(pages, varies),
            Self::Part(lines) => {
                visitors(Cookies::Own, &mut random()).iter().map(|head| part(head, lines)).collect()
            }
            Self::Repeated => vec![Request::plain("/page")],
            Self::Pass => vec![Request::plain("/pass")],
            Self::NewPages => Vec::new(),
        }
    }

    /// One request for each page and variant, to fill a cache with.
    fn pages(self, requests: Vec<Request>) -> Vec<String> {
        match self {
            Self::Part(_) => vec![Request::plain(VALIDATED).text],
            _ => distinct(requests),
        }
    }

    fn script(self) -> Option<&'static str> {
        match self {
            Self::Site { .. } | Self::Part(_) => Some(include_str!("../../peers/replay.lua")),
            Self::NewPages => Some(include_str!("../../peers/miss.lua")),
            // wrk makes these heads itself.
            Self::Repeated | Self::Pass => None,
        }
    }
}

/// A request, and a name for the page or variant that answers it.
#[derive(Clone, Debug)]
struct Request {
    text: String,
    page: String,
}

impl Request {
    fn plain(path: &str) -> Self {
        Self { text: format!("GET {path} HTTP/1.1\r\nHost: {SITE}\r\n\r\n"), page: path.to_owned() }
    }
}

/// The requests of a site's visitors.
fn site(pages: usize, varies: bool) -> Vec<Request> {
    let (heads, asked) = visits(pages, if varies { Cookies::Shared } else { Cookies::Own });
    let ask = |(head, page): (&Head, usize)| {
        let path = path(pages, varies, page);
        let text = format!("GET {path} HTTP/1.1\r\n{}", head.lines);
        let variant = if varies { head.variant.as_str() } else { "" };
        Request { text, page: path + variant }
    };
    heads.iter().cycle().zip(asked).map(ask).collect()
}

/// The visitors' heads, and the numbers of the pages that they ask for by Zipf's law. Each visitor has one turn, and then the
/// first one begins again. Heads and numbers are the same in every run.
pub(crate) fn visits(pages: usize, cookies: Cookies) -> (Vec<Head>, Vec<usize>) {
    let mut random = random();
    let heads = visitors(cookies, &mut random);
    let zipf = Zipf::new(pages);
    (heads, (0..REQUESTS).map(|_| zipf.draw(&mut random)).collect())
}

fn random() -> StdRng {
    StdRng::seed_from_u64(1)
}

fn visitors(cookies: Cookies, random: &mut StdRng) -> Vec<Head> {
    (0..VISITORS).map(|number| Head::of_visitor(number, cookies, random)).collect()
}

fn part(head: &Head, lines: &str) -> Request {
    let text = format!("GET {VALIDATED} HTTP/1.1\r\n{lines}{}", head.lines);
    Request { text, page: VALIDATED.to_owned() }
}

fn path(pages: usize, varies: bool, page: usize) -> String {
    match (pages, varies) {
        (1, false) => "/page".to_owned(),
        (1, true) => "/varies".to_owned(),
        (_, false) => format!("/pages/{page}"),
        (_, true) => format!("/varies/{page}"),
    }
}

/// A load that is ready for wrk.
#[derive(Debug)]
pub(crate) struct Traffic {
    load: Load,
    script: Option<NamedTempFile>,
    requests: NamedTempFile,
    /// One request for each page and variant, to fill a cache with.
    pub(crate) pages: Vec<String>,
}

impl Traffic {
    pub(crate) fn new(load: Load) -> io::Result<Self> {
        let requests = load.requests();
        let script = load.script().map(|text| file([text])).transpose()?;
        let file = file(requests.iter().map(|request| request.text.as_str()))?;
        Ok(Self { load, script, requests: file, pages: load.pages(requests) })
    }

    pub(crate) fn load(&self) -> Load {
        self.load
    }

    /// Adds wrk's arguments for sending this load to a server.
    pub(crate) fn tell(&self, wrk: &mut Command, server: SocketAddr) {
        /// A number for each run, so that each run of `NewPages` has its own pages.
        static RUN: AtomicUsize = AtomicUsize::new(0);
        wrk.args(["--header", &format!("Host: {SITE}")]);
        if let Some(script) = &self.script {
            wrk.arg("--script").arg(script.path());
        }
        let path = if self.load == Load::Pass { "/pass" } else { "/page" };
        wrk.arg(format!("http://{server}{path}")).arg("--").arg(self.requests.path());
        wrk.arg(RUN.fetch_add(1, Ordering::Relaxed).to_string());
    }
}

/// The first request for each page.
fn distinct(requests: Vec<Request>) -> Vec<String> {
    let mut seen = HashSet::new();
    requests.into_iter().filter_map(|request| seen.insert(request.page).then_some(request.text)).collect()
}

fn file<'a>(texts: impl IntoIterator<Item = &'a str>) -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    let mut writer = io::BufWriter::new(&mut file);
    texts.into_iter().try_for_each(|text| writer.write_all(text.as_bytes()))?;
    writer.flush()?;
    drop(writer);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(pages: usize, varies: bool) -> usize {
        distinct(Load::Site { pages, varies }.requests()).len()
    }

    #[test]
    fn most_pages_and_variants_are_asked_for() {
        assert_eq!(pages(1, true), 12);
        assert!((8_500..9_000).contains(&pages(10_000, false)), "{}", pages(10_000, false));
        assert!((15_000..24_000).contains(&pages(2_000, true)), "{}", pages(2_000, true));
    }

    #[test]
    fn visitors_ask_for_different_pages_and_for_the_same_in_every_run() {
        let texts = || site(2_000, false).into_iter().map(|request| request.text);
        let first: Vec<_> = texts().collect();
        let distinct = first.iter().collect::<HashSet<_>>().len();
        assert!((REQUESTS * 9 / 10..REQUESTS).contains(&distinct), "{distinct}");
        assert!(texts().eq(first));
    }

    #[test]
    fn a_part_is_asked_for_by_each_visitor_and_the_whole_page_fills_the_cache() {
        let load = Load::Part("Range: bytes=0-1\r\n");
        let requests = load.requests();
        assert!(requests.iter().all(|request| request.text.contains("\r\nRange: bytes=0-1\r\n")));
        assert_eq!(requests.len(), VISITORS);
        let pages = load.pages(requests);
        assert!(pages.len() == 1 && !pages[0].contains("Range"), "{pages:?}");
    }

    #[test]
    fn a_script_finds_the_requests_and_the_run_in_its_arguments() {
        let traffic = Traffic::new(Load::NewPages).unwrap();
        let mut wrk = Command::new("wrk");
        traffic.tell(&mut wrk, ([127, 0, 0, 1], 80).into());
        let args: Vec<_> = wrk.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let behind = args.iter().position(|arg| arg == "--").unwrap() + 1;
        assert_eq!(args[behind], traffic.requests.path().to_string_lossy());
        assert!(args[behind + 1].parse::<usize>().is_ok() && args.len() == behind + 2, "{args:?}");
        assert!(include_str!("../../peers/replay.lua").contains("args[1]"));
        assert!(include_str!("../../peers/miss.lua").contains("args[2]"));
    }
}
