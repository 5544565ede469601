//! Reads from Redis how it saw the requests.
//!
//! The calls block: they are short, have a deadline, and run while no request is under way.

use std::time::Duration;

use redis::{Client, Cmd, Connection, FromRedisValue, RedisError, cmd};

/// The deadline of one exchange.
const DEADLINE: Duration = Duration::from_secs(5);

/// Watches the keys of one Redis.
pub(crate) struct RedisWitness {
    connection: Connection,
    /// A connection in MONITOR, which reports each command of each client.
    monitor: Connection,
}

impl RedisWitness {
    pub(crate) fn open(url: &str) -> Result<Self, RedisError> {
        let client = Client::open(url)?;
        let [connection, mut monitor] = [connect(&client)?, connect(&client)?];
        monitor.send_packed_command(&cmd("MONITOR").get_packed_command())?;
        monitor.recv_response()?.extract_error()?;
        Ok(Self { connection, monitor })
    }

    /// Deletes keys, so that the walk begins with a cold cache, and drops the commands seen so far.
    pub(crate) fn forget(&mut self, keys: &[&str]) -> Result<(), RedisError> {
        self.ask::<u32>(cmd("DEL").arg(keys))?;
        self.commands("").map(drop)
    }

    /// The seconds that a key has left; negative if it does not exist or never expires.
    pub(crate) fn ttl(&mut self, key: &str) -> Result<i64, RedisError> {
        self.ask(cmd("TTL").arg(key))
    }

    /// The first line of a value; empty if there is none.
    pub(crate) fn first_line(&mut self, key: &str) -> Result<String, RedisError> {
        let value: Vec<u8> = self.ask(cmd("GETRANGE").arg(key).arg(0).arg(99))?;
        Ok(String::from_utf8_lossy(&value).lines().next().unwrap_or_default().to_owned())
    }

    /// The commands for a key since the last call.
    pub(crate) fn commands(&mut self, key: &str) -> Result<Vec<Monitored>, RedisError> {
        let lines = self.monitored()?;
        let commands = lines.iter().filter_map(|line| Some((command(line, key)?, cut(line))));
        Ok(commands.map(|(short, line)| Monitored { short, line }).collect())
    }

    fn monitored(&mut self) -> Result<Vec<String>, RedisError> {
        // MONITOR reports commands in order: when this one arrives, all earlier ones have.
        const END: &str = "cachepage: the step is over";
        self.ask::<String>(cmd("ECHO").arg(END))?;
        let mut lines = Vec::new();
        loop {
            let line = String::from_redis_value(self.monitor.recv_response()?)?;
            if line.ends_with(&format!("\"ECHO\" \"{END}\"")) {
                return Ok(lines);
            }
            lines.push(line);
        }
    }

    fn ask<T: FromRedisValue>(&mut self, cmd: &Cmd) -> Result<T, RedisError> {
        cmd.query(&mut self.connection)
    }
}

/// A command that Redis got.
#[derive(Debug)]
pub(crate) struct Monitored {
    /// `GET`, `SETEX 60`.
    pub(crate) short: String,
    /// The line of MONITOR, in which the page is truncated.
    pub(crate) line: String,
}

fn connect(client: &Client) -> Result<Connection, RedisError> {
    let connection = client.get_connection_with_timeout(DEADLINE)?;
    connection.set_read_timeout(Some(DEADLINE))?;
    connection.set_write_timeout(Some(DEADLINE))?;
    Ok(connection)
}

/// Truncates the page in a line of MONITOR.
fn cut(line: &str) -> String {
    const ENOUGH: usize = 200;
    match line.char_indices().nth(ENOUGH) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

/// The command in a line of MONITOR, `1764000000.123456 [1 127.0.0.1:40000] "GET" ":1:..."`, if it is for the key.
fn command(line: &str, key: &str) -> Option<String> {
    let (_, words) = line.split_once("] \"")?;
    let mut words = words.trim_end_matches('"').splitn(4, "\" \"");
    let name = words.next()?.to_uppercase();
    if words.next()? != key {
        return None;
    }
    // Only the first argument (the seconds) is kept: the next one is the page.
    Some(words.next().map_or(name.clone(), |argument| format!("{name} {argument}")))
}

#[cfg(test)]
mod tests {
    use stack::Redis;

    use super::*;

    #[test]
    fn a_monitored_command_is_its_name_and_seconds() {
        for (line, expected) in [
            (r#"1.2 [1 127.0.0.1:1] "GET" ":1:key""#, Some("GET")),
            (
                r#"1.2 [1 127.0.0.1:1] "setex" ":1:key" "60" "HTTP/1.1 200 OK\r\na: \"b\" \"c\"\r\n""#,
                Some("SETEX 60"),
            ),
            (r#"1.2 [1 127.0.0.1:1] "GET" ":1:other""#, None),
            (r#"1.2 [1 127.0.0.1:1] "PING""#, None),
            ("OK", None),
        ] {
            assert_eq!(command(line, ":1:key").as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn commands_are_those_since_the_last_call() {
        let redis = Redis::start().unwrap();
        let mut witness = RedisWitness::open(&redis.url()).unwrap();
        redis.cli(&["SETEX", "page", "60", "HTTP/1.1 200 OK\r\n\r\n\"quoted\" \"body\""]).unwrap();
        redis.cli(&["GET", "page"]).unwrap();
        redis.cli(&["GET", "other"]).unwrap();
        let commands = witness.commands("page").unwrap();
        let short: Vec<_> = commands.iter().map(|command| command.short.as_str()).collect();
        assert_eq!(short, ["SETEX 60", "GET"]);
        assert!(commands[1].line.ends_with(r#""GET" "page""#), "{commands:?}");
        assert!(witness.commands("page").unwrap().is_empty());
        assert_eq!(witness.first_line("page").unwrap(), "HTTP/1.1 200 OK");
        assert!((1..=60).contains(&witness.ttl("page").unwrap()));
        witness.forget(&["page", "other"]).unwrap();
        assert!(witness.commands("page").unwrap().is_empty());
        assert_eq!((witness.ttl("page").unwrap(), witness.first_line("page").unwrap()), (-2, String::new()));
    }
}
