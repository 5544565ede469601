//! The requests that an origin is for, by their hosts and paths.

use hyper::header::HOST;
use hyper::http::request::Parts;

use crate::pattern::Pattern;
use crate::policy::spellings;
use crate::request::target_of;

/// The hosts and the paths of an origin. An empty list means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// Exact hosts, or `*.` and a domain, in lower case.
    pub(crate) hosts: Vec<String>,
    pub(crate) paths: Vec<Pattern>,
    /// The paths as clients send them.
    sent: Vec<Pattern>,
}

impl Share {
    pub(crate) fn new(hosts: Vec<String>, paths: Vec<Pattern>) -> Self {
        let spelled = |path: &Pattern| spellings(path).map(|text| path.with(text)).collect::<Vec<_>>();
        let sent = paths.iter().flat_map(spelled).collect();
        Self { hosts, paths, sent }
    }

    /// Whether the origin takes every request that no other origin is for.
    pub(super) fn is_rest(&self) -> bool {
        self.hosts.is_empty() && self.paths.is_empty()
    }

    /// Whether a request has one of these hosts and paths.
    pub(super) fn takes(&self, head: &Parts) -> bool {
        if self.is_rest() {
            return false;
        }
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let path = target_of(&head.uri, &head.extensions).split('?').next().unwrap_or_default();
        self.takes_host(host) && self.takes_path(path)
    }

    /// Whether this origin takes every request of a later one.
    pub(crate) fn hides(&self, other: &Self) -> bool {
        let takes = |host: &String| {
            let is_covered = |own: &String| match own.strip_prefix('*') {
                Some(domain) => host.ends_with(domain),
                None => own == host,
            };
            self.hosts.iter().any(is_covered)
        };
        let hosts = self.hosts.is_empty() || (!other.hosts.is_empty() && other.hosts.iter().all(takes));
        let takes = |path: &Pattern| self.paths.iter().any(|own| own.covers(path));
        let paths = self.paths.is_empty() || (!other.paths.is_empty() && other.paths.iter().all(takes));
        // Origins with equal hosts and paths share their requests.
        hosts && paths && self != other && !self.is_rest() && !other.is_rest()
    }

    fn takes_host(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => name,
            _ => host,
        };
        let matches = |pattern: &String| match pattern.strip_prefix('*') {
            Some(domain) => name.len() > domain.len() && ends_with(name, domain),
            None => name.eq_ignore_ascii_case(pattern),
        };
        self.hosts.is_empty() || self.hosts.iter().any(matches)
    }

    fn takes_path(&self, path: &str) -> bool {
        self.sent.is_empty() || self.sent.iter().any(|pattern| pattern.matches(path.bytes()))
    }
}

fn ends_with(name: &str, end: &str) -> bool {
    name.get(name.len() - end.len()..).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    #[test]
    fn a_request_is_for_an_origin_by_host_and_path() {
        let hosts_of = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let paths_of = |texts: &[&str]| texts.iter().map(|text| Pattern::of(text)).collect();
        for (hosts, paths, host, target, expected) in [
            (&["a.example"][..], &[][..], "A.example:8000", "/x", true),
            (&["a.example"], &[], "b.example", "/x", false),
            (&["*.example"], &[], "a.b.example", "/", true),
            (&["*.example"], &[], ".example", "/", false),
            (&["*.example"], &[], "example", "/", false),
            (&["[::1]"], &[], "[::1]:80", "/", true),
            (&[], &["/api/*"], "a", "/api/x?y", true),
            (&[], &["/api/*"], "a", "/apix", false),
            (&[], &["/api/"], "a", "/api/?y", true),
            (&[], &["/api/"], "a", "/api/x", false),
            (&["a"], &["/api/*"], "b", "/api/", false),
            (&["b", "a"], &["/x", "/api/*"], "a", "/api/", true),
            (&[], &["/café/*"], "a", "/caf%C3%A9/x", true),
            (&[], &["/caf%C3%A9/*"], "a", "/caf%C3%A9/x", true),
            (&[], &["/a b"], "a", "/a%20b", true),
            (&[], &[], "a", "/", false),
        ] {
            let share = Share::new(hosts_of(hosts), paths_of(paths));
            let head = Request::get(target).header(HOST, host).body(()).unwrap().into_parts().0;
            assert_eq!(share.takes(&head), expected, "{hosts:?} {paths:?} {host}{target}");
        }
        assert!(Share::default().is_rest());
    }

    #[test]
    fn an_origin_hides_another_if_it_takes_all_its_requests() {
        let share = |hosts: &str, paths: &str| {
            Share::new(
                hosts.split_whitespace().map(str::to_owned).collect(),
                paths.split_whitespace().map(Pattern::of).collect(),
            )
        };
        for ((hosts, paths), (later_hosts, later_paths), expected) in [
            (("a b", ""), ("a", ""), true),
            (("a", ""), ("a b", ""), false),
            (("*.example", ""), ("a.example *.b.example", "/x/*"), true),
            (("*.example", ""), ("example", ""), false),
            (("a", "/api/*"), ("a", "/api/v1/*"), true),
            (("a", "/api/*"), ("a", ""), false),
            (("", "/api/*"), ("a", "/api/x"), true),
            (("a", ""), ("", "/api/"), false),
            (("a", ""), ("a", ""), false),
            (("", ""), ("a", ""), false),
            (("", "/*"), ("", ""), false),
        ] {
            let hides = share(hosts, paths).hides(&share(later_hosts, later_paths));
            assert_eq!(hides, expected, "{hosts} {paths} | {later_hosts} {later_paths}");
        }
    }
}
