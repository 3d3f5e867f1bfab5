//! `errand completions SHELL`.

use crate::{DONE, error::Result};
use clap_complete::Shell;

#[derive(Debug, clap::Args)]
#[command(
    about = "Print a completion script for a shell",
    after_help = "EXAMPLES\n  errand completions bash > ~/.local/share/bash-completion/completions/errand\n  \
        errand completions zsh > ~/.zfunc/_errand"
)]
pub struct CompletionsArgs {
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: &CompletionsArgs) -> Result<i32> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::command(), "errand", &mut script);
    crate::output::write_out(&String::from_utf8_lossy(&script))?;
    Ok(DONE)
}
