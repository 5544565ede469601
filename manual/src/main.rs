//! Writes the man pages and the shell completions for packages: `cargo run -p manual -- FOLDER`. They are made from the
//! arguments of the program, which packages call cachepage.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use proxy::Args;

/// The name of the program in packages.
const NAME: &str = "cachepage";

fn main() -> io::Result<()> {
    let folder =
        std::env::args_os().nth(1).ok_or_else(|| io::Error::other("name the folder to write into"))?;
    write_all(Path::new(&folder))
}

fn write_all(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut command = Args::command().name(NAME).bin_name(NAME).display_name(NAME);
    command.build();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, NAME, folder)?;
    }
    clap_mangen::generate_to(command, folder)?;
    for file in fs::read_dir(folder)? {
        rename_program(&file?.path())?;
    }
    Ok(())
}

/// Replaces the name of the program in the examples, which use the name in the workspace.
fn rename_program(file: &Path) -> io::Result<()> {
    let text = fs::read_to_string(file)?;
    fs::write(file, text.replace("  proxy ", &format!("  {NAME} ")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failure is the test's")]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn each_command_has_a_page_and_each_shell_its_completions() {
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let page = read("cachepage.1");
        let commands: Vec<_> =
            Args::command().get_subcommands().map(|one| one.get_name().to_owned()).collect();
        assert!(commands.len() >= 3);
        for command in commands.iter().filter(|name| *name != "help") {
            assert!(
                page.contains(&format!("cachepage\\-{command}(1)")),
                "{command} is not in the page of the program"
            );
            assert!(read(&format!("cachepage-{command}.1")).starts_with(".ie"), "{command}");
        }
        for text in ["--trusted-proxies", "PROXY_CACHE"] {
            assert!(page.replace("\\-", "-").contains(text), "{text}");
        }
        for completions in ["cachepage.bash", "_cachepage", "cachepage.fish"] {
            let text = read(completions);
            assert!(
                text.contains("trusted-proxies") && commands.iter().all(|name| text.contains(name)),
                "{completions}"
            );
        }
        assert!(!page.contains("  proxy "), "the program is called cachepage");
    }

    #[test]
    fn bash_accepts_its_completions() {
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path()).unwrap();
        let status =
            Command::new("bash").arg("-n").arg(folder.path().join("cachepage.bash")).status().unwrap();
        assert!(status.success());
    }
}
