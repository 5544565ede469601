//! Tries, without changing anything, whether Redis allows the commands that the proxy needs.

use super::locks;
use super::pool::Commands;

/// Each command that a proxy needs, on a key that does not exist. None changes anything, since no value may live for 0
/// seconds. `purges` adds the commands of the purge log.
pub(super) fn trials(key: &[u8], purges: bool) -> Commands {
    let mut commands = Commands::default();
    commands.push("GET", &[key]);
    commands.push("MGET", &[key, key]);
    commands.push("PTTL", &[key]);
    commands.push("SETEX", &[key, b"0", b""]);
    commands.push("EXPIRE", &[key, b"1"]);
    commands.push("PEXPIRE", &[key, b"1"]);
    commands.push("DEL", &[key]);
    commands.push("SET", &[key, b"", b"XX", b"PX", b"1"]);
    commands.push("EVAL", &[locks::EXPIRE.as_bytes(), b"1", key, b"", b"1"]);
    if purges {
        commands.push("XRANGE", &[key, b"-", b"+", b"COUNT", b"1"]);
        commands.push("XADD", &[key, b"NOMKSTREAM", b"*", b"k", b""]);
    }
    commands
}
