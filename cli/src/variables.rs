//! The variable of every flag: `ERRAND_`, the verb's words, the flag, in capitals (`errand node token --ttl` is
//! `ERRAND_NODE_TOKEN_TTL`). A flag that declares a variable of its own keeps it.

use clap::{Arg, ArgAction, Command, builder::BoolishValueParser};

/// `command` and everything below it with a variable for every flag.
pub fn named(command: Command) -> Command {
    below(command, "ERRAND")
}

fn below(command: Command, prefix: &str) -> Command {
    command.mut_args(|arg| flag(arg, prefix)).mut_subcommands(|sub| {
        let prefix = format!("{prefix}_{}", capitals(sub.get_name()));
        below(sub, &prefix)
    })
}

fn flag(arg: Arg, prefix: &str) -> Arg {
    // Values would make the help differ from one shell to the next, and may be secret.
    let arg = arg.hide_env_values(true);
    if arg.is_hide_set() {
        return arg;
    }
    let arg = match arg.get_action() {
        // A variable says 1, yes or true; the flag itself has no value.
        ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
        ArgAction::Set | ArgAction::Append => arg,
        _ => return arg,
    };
    match (arg.get_long().map(capitals), arg.get_env()) {
        (Some(long), None) => arg.env(format!("{prefix}_{long}")),
        _ => arg,
    }
}

fn capitals(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}
