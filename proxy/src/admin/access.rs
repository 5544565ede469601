//! Decides on a request to the admin listener by its head: Host, path, method, Origin, token, in this order.

use std::net::IpAddr;

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, StatusCode};

use crate::config::{Admin, AdminAddress};

/// The resource that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Page,
    Health,
    Ready,
    Metrics,
    Status,
    Events,
    Purges,
    Purge,
    Config,
    Explain,
    Drain,
    Reload,
    Log,
}

/// Why a request is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    #[error("this listener does not answer to that Host; admin.hosts adds names")]
    Host,
    #[error("not one of {}", Route::LIST)]
    Path,
    #[error("{} takes {}", .0.path(), .0.allow())]
    Method(Route),
    #[error("a page of another origin may change nothing here")]
    Origin,
    #[error("needs Authorization: Bearer and the token in admin.token_file")]
    Token,
}

impl Denied {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Host | Self::Origin => StatusCode::FORBIDDEN,
            Self::Path => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Token => StatusCode::UNAUTHORIZED,
        }
    }
}

impl Route {
    const ALL: [Self; 13] = [
        Self::Page,
        Self::Health,
        Self::Ready,
        Self::Metrics,
        Self::Status,
        Self::Events,
        Self::Purges,
        Self::Purge,
        Self::Config,
        Self::Explain,
        Self::Drain,
        Self::Reload,
        Self::Log,
    ];

    const LIST: &'static str = "/, /healthz, /readyz, /metrics, /status, /events, /purges, /purge, /config, /explain, /drain, /reload, /log";

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Page => "/",
            Self::Health => "/healthz",
            Self::Ready => "/readyz",
            Self::Metrics => "/metrics",
            Self::Status => "/status",
            Self::Events => "/events",
            Self::Purges => "/purges",
            Self::Purge => "/purge",
            Self::Config => "/config",
            Self::Explain => "/explain",
            Self::Drain => "/drain",
            Self::Reload => "/reload",
            Self::Log => "/log",
        }
    }

    /// Whether it changes something. Then the method is POST.
    pub(super) fn changes(self) -> bool {
        matches!(self, Self::Purge | Self::Drain | Self::Reload | Self::Log)
    }

    /// Whether probes ask for it, which may use any name.
    fn is_probe(self) -> bool {
        matches!(self, Self::Health | Self::Ready)
    }

    /// The methods, as in `Allow`.
    pub(super) fn allow(self) -> &'static str {
        if self.changes() { "POST" } else { "GET, HEAD" }
    }

    fn takes(self, method: &Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
    }
}

/// The access rules of the listener.
#[derive(Debug)]
pub(super) struct Access<'a>(pub(super) &'a Admin);

impl Access<'_> {
    /// The resource that a request asks for, if it is allowed.
    pub(super) fn admit(&self, request: &Parts) -> Result<Route, Denied> {
        let route = Route::ALL.into_iter().find(|route| route.path() == request.uri.path());
        if !route.is_some_and(Route::is_probe) && !self.is_named_by(request) {
            return Err(Denied::Host);
        }
        let route = route.ok_or(Denied::Path)?;
        if !route.takes(&request.method) {
            return Err(Denied::Method(route));
        }
        if route.changes() && has_foreign_origin(&request.headers) {
            return Err(Denied::Origin);
        }
        if self.wants_token(route) && !self.has_token(&request.headers) {
            return Err(Denied::Token);
        }
        Ok(route)
    }

    /// Whether the request names this listener: somebody else's DNS name that points here is refused.
    fn is_named_by(&self, request: &Parts) -> bool {
        let AdminAddress::Tcp(address) = &self.0.listen else { return true };
        let host = only(&request.headers, &HOST).and_then(|text| text.parse::<Authority>().ok());
        let target = request.uri.authority();
        let allows = |authority: &Authority| self.allows(authority.host(), address.ip().to_canonical());
        host.as_ref().is_some_and(allows) && target.is_none_or(allows)
    }

    fn allows(&self, host: &str, own: IpAddr) -> bool {
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match literal {
            Ok(ip) => ip.to_canonical() == own || !own.is_loopback(),
            Err(_) => {
                let is_localhost = own.is_loopback() && host.eq_ignore_ascii_case("localhost");
                is_localhost || self.0.hosts.iter().any(|name| name.eq_ignore_ascii_case(host))
            }
        }
    }

    /// Whether a request needs the token. Over a Unix socket the file's mode is the permission.
    fn wants_token(&self, route: Route) -> bool {
        match (&self.0.listen, self.0.listen.is_local()) {
            (AdminAddress::Unix(_), _) => false,
            (AdminAddress::Tcp(_), true) => route.changes() && self.0.token.is_some(),
            (AdminAddress::Tcp(_), false) => !route.is_probe() && route != Route::Metrics,
        }
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let credentials = only(headers, &AUTHORIZATION).and_then(|text| text.split_once(' '));
        let (Some((scheme, text)), Some(token)) = (credentials, &self.0.token) else { return false };
        scheme.eq_ignore_ascii_case("bearer") && token.is(text.trim().as_bytes())
    }
}

/// Whether a browser sends the request for a page that is not this listener's own.
fn has_foreign_origin(headers: &HeaderMap) -> bool {
    let host = only(headers, &HOST).unwrap_or_default();
    let is_own = |origin: &str| {
        origin.strip_prefix("http://").is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    };
    headers.contains_key(ORIGIN) && !only(headers, &ORIGIN).is_some_and(is_own)
}

/// The value of a header that has exactly one line.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;
    use crate::config::Config;

    fn admin(listen: &str) -> Admin {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "s3cret\n").unwrap();
        let text = format!(
            "[admin]\nlisten = \"{listen}\"\nhosts = [\"Admin.example\"]\ntoken_file = \"{}\"\n",
            file.display()
        );
        let config = Config::parse(&crate::args::Args::default(), Some(("file", &text))).unwrap();
        config.admin.unwrap()
    }

    /// A request from `METHOD TARGET` and header lines.
    fn request(text: &str) -> Parts {
        let mut lines = text.split('\n');
        let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(target);
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    const LOCAL: &str = "127.0.0.1:8002";
    const BEYOND: &str = "0.0.0.0:8002";
    const FILE: &str = "unix:/run/cachepage/admin.sock";

    #[test]
    fn the_host_must_be_the_listeners() {
        let denied = Err(Denied::Host);
        for (listen, host, expected) in [
            (LOCAL, "127.0.0.1:8002", Ok(Route::Status)),
            (LOCAL, "LOCALHOST", Ok(Route::Status)),
            (LOCAL, "admin.EXAMPLE:80", Ok(Route::Status)),
            (LOCAL, "evil.example:8002", denied),
            (LOCAL, "localhost.evil.example", denied),
            (LOCAL, "localhost@evil.example", denied),
            (LOCAL, "10.0.0.1:8002", denied),
            ("[::1]:8002", "[::1]:8002", Ok(Route::Status)),
            (BEYOND, "10.0.0.1:8002", Err(Denied::Token)),
            (BEYOND, "[2001:db8::1]", Err(Denied::Token)),
            (BEYOND, "localhost", denied),
            (FILE, "anything", Ok(Route::Status)),
        ] {
            let asked = request(&format!("GET /status\nHost: {host}"));
            assert_eq!(Access(&admin(listen)).admit(&asked), expected, "{listen} {host}");
            let probe = request(&format!("GET /readyz\nHost: {host}"));
            assert_eq!(Access(&admin(listen)).admit(&probe), Ok(Route::Ready), "{listen} {host}");
        }
        for odd in [
            "GET /status",
            "GET /status\nHost: localhost\nHost: localhost",
            "GET http://evil.example/status\nHost: localhost",
        ] {
            assert_eq!(Access(&admin(LOCAL)).admit(&request(odd)), denied, "{odd}");
        }
    }

    #[test]
    fn the_checks_are_made_in_their_order() {
        let foreign = "Origin: http://evil.example";
        let own = "Origin: http://localhost";
        let token = "Authorization: Bearer s3cret";
        for (head, expected) in [
            (format!("PUT /nothing\nHost: x\n{foreign}"), Err(Denied::Host)),
            (format!("PUT /nothing\nHost: localhost\n{foreign}"), Err(Denied::Path)),
            (format!("GET /drain\nHost: localhost\n{foreign}"), Err(Denied::Method(Route::Drain))),
            (format!("POST /status\nHost: localhost\n{token}"), Err(Denied::Method(Route::Status))),
            (format!("POST /drain\nHost: localhost\n{foreign}\n{token}"), Err(Denied::Origin)),
            (format!("POST /drain\nHost: localhost\nOrigin: null\n{token}"), Err(Denied::Origin)),
            (format!("POST /drain\nHost: localhost\n{own}\n{own}\n{token}"), Err(Denied::Origin)),
            (format!("POST /drain\nHost: localhost\n{own}"), Err(Denied::Token)),
            ("POST /drain\nHost: localhost\nAuthorization: Bearer s3cre".into(), Err(Denied::Token)),
            ("POST /drain\nHost: localhost\nAuthorization: Basic s3cret".into(), Err(Denied::Token)),
            (format!("POST /drain\nHost: localhost\n{token}\n{token}"), Err(Denied::Token)),
            (format!("POST /drain\nHost: localhost\n{own}\n{token}"), Ok(Route::Drain)),
            (format!("POST /drain\nHost: localhost\n{token}"), Ok(Route::Drain)),
            (format!("HEAD /metrics\nHost: localhost\n{foreign}"), Ok(Route::Metrics)),
        ] {
            assert_eq!(Access(&admin(LOCAL)).admit(&request(&head)), expected, "{head}");
        }
    }

    #[test]
    fn beyond_the_loopback_all_but_probes_and_metrics_needs_the_token() {
        for (target, is_open) in
            [("/healthz", true), ("/readyz", true), ("/metrics", true), ("/status", false)]
        {
            let head = format!("GET {target}\nHost: 10.0.0.1");
            assert_eq!(Access(&admin(BEYOND)).admit(&request(&head)).is_ok(), is_open, "{target}");
            let head = format!("{head}\nAuthorization: bearer s3cret");
            assert!(Access(&admin(BEYOND)).admit(&request(&head)).is_ok(), "{target}");
        }
        assert_eq!(Access(&admin(FILE)).admit(&request("POST /drain\nHost: x")), Ok(Route::Drain));
    }

    #[test]
    fn the_list_of_paths_is_whole() {
        assert_eq!(Route::ALL.map(Route::path).join(", "), Route::LIST);
    }
}
