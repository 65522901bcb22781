//! `xent completions` and `xent man`: what a shell knows about the program, made from its options.

use std::io::{Write, stdout};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::error::{Error, Result};

/// Print the completions of a shell
///
/// For bash: `xent completions bash > ~/.local/share/bash-completion/completions/xent`.
#[derive(Debug, Args)]
pub struct CompletionsOptions {
    /// The shell
    shell: Shell,
}

/// Print a manual page
///
/// `xent man > xent.1` is the page of the program, `xent man eval > xent-eval.1` that of a command.
#[derive(Debug, Args)]
pub struct ManOptions {
    /// The command; without it, the whole program
    command: Option<String>,
}

/// Prints the completions of a shell.
pub fn completions(options: &CompletionsOptions, mut program: Command) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(options.shell, &mut program, "xent", &mut text);
    print(&text)
}

/// Prints a manual page.
pub fn man(options: &ManOptions, mut program: Command) -> Result<()> {
    program.build();
    let page = match &options.command {
        None => program,
        Some(name) => program.find_subcommand(name).cloned().ok_or_else(|| {
            let names: Vec<_> = program.get_subcommands().map(Command::get_name).collect();
            Error::input(format!(
                "there is no command '{name}', expected one of: {}",
                names.join(", ")
            ))
        })?,
    };
    let name = page.get_display_name().unwrap_or("xent").to_owned();
    let mut text = Vec::new();
    Man::new(page).title(name).render(&mut text).map_err(Error::failed)?;
    print(&text)
}

fn print(text: &[u8]) -> Result<()> {
    stdout().write_all(text).map_err(|error| Error::failed(format!("cannot print: {error}")))
}
