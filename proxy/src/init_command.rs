//! The command `proxy init`.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use proxy::{Args, Config, Drafted, Init};
use server::fail;

/// Writes a first file of settings. Exits with 1 if it cannot.
pub(crate) async fn init(args: &Args, asked: &Init, config: &Config) -> ExitCode {
    let drafted = match Drafted::of(args, asked, config).await {
        Ok(drafted) => drafted,
        Err(fault) => return fail(&fault),
    };
    if let Err(fault) = drafted.write(&asked.output, asked.replace) {
        return fail(&fault);
    }
    let mut said =
        format!("{} has {}{}\n", asked.output.display(), rules(drafted.rules), in_comments(&drafted));
    let notes = drafted.notes.iter().map(|note| ("note", note));
    notes.chain(drafted.unseen.iter().map(|unseen| ("not seen", unseen))).for_each(|(label, text)| {
        // Writing to a String does not fail.
        let _ = writeln!(said, "{label}: {text}");
    });
    // If standard error is closed, nobody reads this.
    let _ = write!(io::stderr(), "{said}");
    ExitCode::SUCCESS
}

/// The rules in comments, which count once somebody takes their `#` away.
fn in_comments(drafted: &Drafted) -> String {
    match drafted.in_comments {
        0 => String::new(),
        count => format!(", and {count} in comments: take the # away from those that you want"),
    }
}

fn rules(count: usize) -> String {
    if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") }
}
