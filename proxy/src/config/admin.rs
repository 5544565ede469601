//! `[admin]`: the listener for operators.

use std::fmt;
use std::net::IpAddr;

pub use server::ListenAddress as AdminAddress;

use super::settings::{Setting, Settings};
use super::{address, parse};

/// The settings of the admin listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens.
    pub listen: AdminAddress,
    /// The token of requests that change something or come from beyond the loopback.
    pub token: Option<Token>,
    /// The names by which it may be asked, besides its address, in lower case.
    pub hosts: Vec<String>,
}

impl Admin {
    /// A warning if nothing protects the orders of the listener.
    pub(super) fn warning(&self) -> Option<String> {
        let is_open = matches!(self.listen, AdminAddress::Tcp(_)) && self.token.is_none();
        is_open.then(|| {
            format!(
                "admin.listen: every user of this machine may reload, purge and drain the proxy by {}: admin.token_file, or a Unix socket, prevents that",
                self.listen
            )
        })
    }
}

/// The token of operators. Neither `Debug` nor anything else prints it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Whether a text is the token. The time of the comparison does not tell how much of the text is right.
    pub(crate) fn is(&self, text: &[u8]) -> bool {
        let differs = self.0.bytes().zip(text).fold(0, |differs, (ours, theirs)| differs | (ours ^ theirs));
        self.0.len() == text.len() && differs == 0
    }
}

impl Token {
    /// The value of an `Authorization` header with the token.
    pub(crate) fn credentials(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Reads the section; `Some(None)` if the listener is off.
pub(super) fn admin(flag: Option<Setting>, settings: &mut Settings<'_>) -> Option<Option<Admin>> {
    let listen = settings.take("admin.listen", flag, "", listen);
    let token = settings.take("admin.token_file", None, "", token);
    let hosts = settings.take_list("admin.hosts", None, "", hosts);
    let (listen, token, hosts) = (listen?, token?, hosts?);
    let Some(listen) = listen else { return Some(None) };
    if !listen.is_local() && token.is_none() {
        settings.fault(format!(
            "admin.listen: {listen} can be reached from other machines: admin.token_file must name a file with a token"
        ));
        return None;
    }
    Some(Some(Admin { listen, token, hosts }))
}

fn listen(text: &str) -> Result<Option<AdminAddress>, String> {
    match (text, text.strip_prefix("unix:")) {
        ("", _) => Ok(None),
        (_, Some(path)) => match parse::socket(path)? {
            Some(path) if path.is_absolute() => Ok(Some(AdminAddress::Unix(path))),
            _ => Err(format!("{text:?} names no file: write unix:/run/cachepage/admin.sock")),
        },
        _ => match address::listen(text) {
            Ok(address) => Ok(Some(AdminAddress::Tcp(address))),
            Err(_) => Err(format!(
                "{text:?} is neither an address and port like 127.0.0.1:8002 nor a socket like unix:/run/cachepage/admin.sock"
            )),
        },
    }
}

/// The token in a file, without the blanks and line ends around it.
pub(super) fn token(path: &str) -> Result<Option<Token>, String> {
    if path.is_empty() {
        return Ok(None);
    }
    let text = parse::secret(path)?;
    match text.trim() {
        "" => Err(format!("{path} is empty: write a token into it")),
        token if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Some(Token(token.to_owned()))),
        _ => Err(format!("{path} holds more than a token of visible ASCII characters")),
    }
}

fn hosts(text: &str) -> Result<Vec<String>, String> {
    let is_name = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
            && name.parse::<IpAddr>().is_err()
    };
    match parse::members(text)?.into_iter().find(|name| !is_name(name)) {
        Some(name) => Err(format!("{name:?} is not a name like admin.example, without a port")),
        None => Ok(parse::members(text)?.into_iter().map(str::to_lowercase).collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::args::Args;
    use crate::config::{Config, Faults};

    fn parse(file: &str) -> Result<Option<Admin>, Faults> {
        Config::parse(&Args::default(), Some(("cachepage.toml", file))).map(|config| config.admin)
    }

    fn token_file(text: &str) -> (tempfile::NamedTempFile, String) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let setting = format!("token_file = \"{}\"\n", file.path().display());
        (file, setting)
    }

    #[test]
    fn the_listener_is_off_unless_it_has_an_address() {
        assert!(parse("").unwrap().is_none());
        for (listen, shown) in [
            ("127.0.0.1:8002", "http://127.0.0.1:8002"),
            ("[::1]:8002", "http://[::1]:8002"),
            ("unix:/run/cachepage/admin.sock", "unix:/run/cachepage/admin.sock"),
        ] {
            let admin = parse(&format!("[admin]\nlisten = \"{listen}\"\n")).unwrap().unwrap();
            assert_eq!(admin.listen.to_string(), shown);
        }
    }

    #[test]
    fn a_listener_beyond_the_loopback_needs_a_token() {
        let (_file, token_file) = token_file(" s3cret\n");
        for listen in ["0.0.0.0:8002", "[::]:8002", "192.0.2.1:8002"] {
            let file = format!("[admin]\nlisten = \"{listen}\"\n");
            let faults = parse(&file).unwrap_err().to_string();
            assert!(faults.starts_with(&format!("admin.listen: http://{listen} can be")), "{faults}");
            let token = parse(&(file + &token_file)).unwrap().unwrap().token.unwrap();
            assert_eq!(format!("{token:?}"), "***");
            for (text, is_right) in
                [("s3cret", true), ("s3cre", false), ("S3cret", false), ("s3cret!", false)]
            {
                assert_eq!(token.is(text.as_bytes()), is_right, "{text}");
            }
        }
    }

    #[test]
    fn a_loopback_listener_without_a_token_is_a_warning() {
        let (_file, token_file) = token_file("s3cret");
        for (listen, token_file, is_open) in [
            ("127.0.0.1:8002", "", true),
            ("127.0.0.1:8002", token_file.as_str(), false),
            ("unix:/run/admin.sock", "", false),
        ] {
            let file = format!("[admin]\nlisten = \"{listen}\"\n{token_file}");
            let config = Config::parse(&Args::default(), Some(("cachepage.toml", &file))).unwrap();
            let warned =
                config.warnings.iter().any(|warning| warning.starts_with("admin.listen: every user"));
            assert_eq!(warned, is_open, "{file}");
        }
    }

    #[test]
    fn faults_of_the_section_are_reported_with_their_lines() {
        let (_file, empty) = token_file(" \n");
        for (setting, fault) in [
            ("listen = \"8002\"\n", "listen: \"8002\" is neither an address"),
            ("listen = \"unix:admin.sock\"\n", "listen: \"unix:admin.sock\" names no file"),
            ("listen = \"unix:/run/\"\n", "listen: \"/run/\" is a folder"),
            ("token_file = \"/no/such/file\"\n", "token_file: /no/such/file cannot be read"),
            (&empty, "token_file: "),
            ("token_file = \"/dev/null\"\n", "token_file: /dev/null is no regular file"),
            ("hosts = [\"a b\"]\n", "hosts: \"a b\" is not a name"),
            ("hosts = [\"10.0.0.1\"]\n", "hosts: \"10.0.0.1\" is not a name"),
        ] {
            let faults = parse(&format!("[admin]\n{setting}")).unwrap_err().to_string();
            assert!(faults.starts_with(&format!("cachepage.toml:2: admin.{fault}")), "{faults}");
        }
    }
}
