//! Checks a host as Django does (`django.http.request.host_validation_re`).

/// Whether a Host header is valid: letters, digits, dots and hyphens, or an IPv6 address, and a port.
pub(crate) fn is_good(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let (name, port) = match host.rfind(':') {
        Some(at) if !host.ends_with(']') => (&host[..at], Some(&host[at + 1..])),
        _ => (host.as_str(), None),
    };
    let good_port =
        port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    // One trailing dot is not part of the name, and the name must not be empty.
    good_port && (is_address(name) || is_name(name) && name != ".")
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-')
}

fn is_address(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let Some((before, after)) = inner.and_then(|inner| inner.split_once(':')) else { return false };
    before.bytes().all(is_hex)
        && !after.is_empty()
        && after.bytes().all(|byte| is_hex(byte) || byte == b':' || byte == b'.')
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_valid_as_in_django() {
        for host in [
            "localhost:8000",
            "Example.COM:80",
            "[::1]:8000",
            "[::1]",
            "a..b",
            "example.com.",
            "[fe80::1.2.3.4]:1",
            "1:99999",
        ] {
            assert!(is_good(host), "{host}");
        }
        for host in [
            "",
            ".",
            ".:80",
            "under_score",
            "bad_host..name/",
            "a b",
            "a:",
            "a:b",
            ":80",
            "[::1",
            "[]",
            "[x:]",
            "user@h",
            "a,b",
            "h\u{e9}",
        ] {
            assert!(!is_good(host), "{host}");
        }
    }
}
