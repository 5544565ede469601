//! Unix sockets as files: made aside and moved to their place, so that there is no moment without one.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// The user and the group may connect, as with the sockets of usual web servers.
const MODE: u32 = 0o660;

/// Listens at a file, in place of a socket that nobody listens at any longer. The error says what to do.
pub fn bind_file(path: &Path, flag: &str) -> Result<UnixListener, String> {
    let fault =
        |what: String| format!("cannot listen on unix:{}: {what}; {flag} takes another", path.display());
    match fs::metadata(path) {
        Ok(file) if !file.file_type().is_socket() => return Err(fault("the file is no socket".to_owned())),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(fault("the socket is in use".to_owned())),
        _ => {}
    }
    place(path, Some(MODE)).map_err(|error| fault(error.to_string()))
}

/// Makes a socket in place of any file at this path. The socket has its mode from the first moment.
pub(crate) fn place(path: &Path, mode: Option<u32>) -> io::Result<UnixListener> {
    let aside = aside(path);
    let _ = fs::remove_file(&aside);
    let listener = UnixListener::bind(&aside)?;
    if let Some(mode) = mode {
        fs::set_permissions(&aside, Permissions::from_mode(mode))?;
    }
    fs::rename(&aside, path)?;
    Ok(listener)
}

/// A path beside the file that only this process uses.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    name.into()
}

/// Whether a socket was made at the temporary path beside this file.
pub(crate) fn was_aside_of(made_at: &Path, path: &Path) -> bool {
    let rest = made_at.as_os_str().as_bytes().strip_prefix(path.as_os_str().as_bytes());
    rest.and_then(|rest| rest.strip_prefix(b"."))
        .is_some_and(|id| !id.is_empty() && id.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let listener = bind_file(&path, "--flag").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        let said = bind_file(&path, "--flag").unwrap_err();
        assert!(said.ends_with("a.sock: the socket is in use; --flag takes another"), "{said}");
        drop(listener);
        drop(bind_file(&path, "--flag").unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "text").unwrap();
        let said = bind_file(&path, "--flag").unwrap_err();
        assert!(said.contains("the file is no socket"), "{said}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        let said = bind_file(Path::new("/no/such/folder/a.sock"), "--flag").unwrap_err();
        assert!(said.contains("No such file"), "{said}");
    }
}
