//! `[redis]`: settings that the URL of the store does not hold.

use super::address::StoreUrl;
use super::parse;
use super::settings::Settings;
use crate::store::RedisOptions;

/// Reads the section and adds it to the store.
pub(super) fn with_options(store: StoreUrl, settings: &mut Settings<'_>) -> Option<StoreUrl> {
    let user = settings.take("redis.user", None, "", text);
    let [password, sentinel_password] = ["redis.password_file", "redis.sentinel_password_file"]
        .map(|name| settings.take(name, None, "", password));
    let ca_file = settings.take("redis.ca_file", None, "", text);
    let client_certificate = settings.take("redis.client_certificate", None, "", text);
    let client_key = settings.take("redis.client_key", None, "", text);
    let server_name = settings.take("redis.server_name", None, "", text);
    let options = RedisOptions {
        user: user?,
        password: password?,
        sentinel_password: sentinel_password?,
        ca_file: ca_file?,
        client_certificate: client_certificate?,
        client_key: client_key?,
        server_name: server_name?,
    };
    match store {
        StoreUrl::Memory if options != RedisOptions::default() => {
            settings.fault("[redis] has no effect with store = \"memory\": remove it".to_owned());
            None
        }
        StoreUrl::Memory => Some(StoreUrl::Memory),
        StoreUrl::Redis(redis) => match redis.with(options) {
            Ok(redis) => Some(StoreUrl::Redis(Box::new(redis))),
            Err(faults) => {
                faults.into_iter().for_each(|fault| settings.fault(format!("store: {fault}")));
                None
            }
        },
    }
}

fn text(text: &str) -> Result<Option<String>, String> {
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// The password in a file, without the line end after it.
fn password(path: &str) -> Result<Option<String>, String> {
    if path.is_empty() {
        return Ok(None);
    }
    let text = parse::secret(path)?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("{path} is empty: write a password into it")),
        password => Ok(Some(password.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use crate::args::Args;
    use crate::config::Config;

    fn fault(file: &str) -> String {
        Config::parse(&Args::default(), Some(("cachepage.toml", file))).unwrap_err().to_string()
    }

    fn file_with(text: &str) -> (tempfile::NamedTempFile, String) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let path = file.path().display().to_string();
        (file, path)
    }

    #[test]
    fn a_user_and_a_password_in_a_file_are_taken() {
        let (_file, path) = file_with("s3cret\n");
        let file =
            format!("store = \"redis://host\"\n[redis]\nuser = \"cache\"\npassword_file = \"{path}\"\n");
        let config = Config::parse(&Args::default(), Some(("cachepage.toml", &file))).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn each_fault_names_the_setting_and_the_way_out() {
        let (_empty, empty) = file_with("");
        for (settings, expected) in [
            (
                "[redis]\nuser = \"cache\"".to_owned(),
                "store: a user without a password: add redis.password_file",
            ),
            (format!("[redis]\npassword_file = \"{empty}\""), "is empty: write a password into it"),
            ("[redis]\npassword_file = \"/nowhere\"".to_owned(), "/nowhere cannot be read"),
            (format!("[redis]\nsentinel_password_file = \"{empty}x\""), "cannot be read"),
            ("[redis]\nserver_name = \"redis.example\"".to_owned(), "need TLS: a URL with rediss"),
            ("store = \"memory\"\n[redis]\nserver_name = \"a\"".to_owned(), "[redis] has no effect"),
            (
                "store = \"rediss://host\"\n[redis]\nclient_key = \"/nowhere\"".to_owned(),
                "client_key or server_name in [redis]: a certificate and a key belong together",
            ),
            ("store = \"rediss://host\"\n[redis]\nca_file = \"/nowhere\"".to_owned(), "in [redis]: /nowhere"),
            (format!("store = \"rediss://host\"\n[redis]\nca_file = \"{empty}\""), "in [redis]: "),
            ("[redis]\npassword = \"x\"".to_owned(), "redis.password: no such setting"),
        ] {
            let said = fault(&settings);
            assert!(said.contains(expected), "{settings}: {said}");
        }
    }
}
