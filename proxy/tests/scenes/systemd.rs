//! systemd is told when the program serves, reloads, lives and stops. The test has its socket.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use crate::program::command;
use crate::support::PATIENCE;

/// What systemd hears.
struct Manager(UnixDatagram);

impl Manager {
    /// Waits for a message with this line, and returns the message.
    fn hears(&self, line: &str) -> String {
        loop {
            let mut message = [0; 1024];
            let length = self.0.recv(&mut message).unwrap_or_else(|error| panic!("{line}: {error}"));
            let message = String::from_utf8_lossy(&message[..length]).into_owned();
            if message.lines().any(|one| one == line) {
                return message;
            }
        }
    }
}

#[test]
fn systemd_is_told_of_the_start_of_reloads_of_the_watchdog_and_of_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    is_told(UnixDatagram::bind(&socket).unwrap(), socket.as_os_str());
}

#[cfg(target_os = "linux")]
#[test]
fn systemd_is_told_at_a_socket_without_a_file_too() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;

    let name = format!("cachepage/{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    is_told(socket, format!("@{name}").as_ref());
}

fn is_told(manager: UnixDatagram, socket: &OsStr) {
    let manager = Manager(manager);
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cachepage.toml");
    fs::write(&file, "store = \"memory\"\n").unwrap();
    let mut child = command(&["--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()])
        .env("NOTIFY_SOCKET", socket)
        .env("WATCHDOG_USEC", "200000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
    };
    let ready = manager.hears("READY=1");
    assert!(
        ready.contains(&format!("MAINPID={}\n", child.id())) && ready.contains("STATUS=serving"),
        "{ready}"
    );
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");
    fs::write(&file, "store = \"memory\"\nnonsense = 1\n").unwrap();
    signal("-HUP");
    assert!(manager.hears("RELOADING=1").contains("MONOTONIC_USEC="));
    assert!(manager.hears("READY=1").contains("the new settings have faults"));
    signal("-TERM");
    manager.hears("STOPPING=1");
    assert!(child.wait().unwrap().success());
}
