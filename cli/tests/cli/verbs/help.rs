//! The help of every command is one golden file: a change of a flag shows up as a change of a page.

use std::{fmt::Write, path::Path};

/// As wide as a usual terminal.
const WIDTH: usize = 80;

#[test]
fn the_help_of_every_command_is_what_help_txt_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help.txt");
    let mut pages = String::new();
    page(cli::command().term_width(WIDTH), "", &mut pages);
    if std::env::var_os("ERRAND_BLESS").is_some() {
        std::fs::write(&file, &pages).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    for (line, (is, was)) in pages.lines().zip(golden.lines()).enumerate() {
        assert_eq!(is, was, "help.txt line {}; run with ERRAND_BLESS=1 to accept it", line + 1);
    }
    assert_eq!(pages.len(), golden.len(), "help.txt is longer or shorter; run with ERRAND_BLESS=1 to accept it");
}

fn page(mut command: clap::Command, before: &str, out: &mut String) {
    let name = format!("{before}{}", command.get_name());
    command.build();
    let help = command.clone().bin_name(&name).term_width(WIDTH).render_long_help().to_string();
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    writeln!(out, "==== {name} ====\n{}\n", help.join("\n").trim_end()).unwrap();
    for sub in command.get_subcommands().filter(|s| s.get_name() != "help" && !s.is_hide_set()) {
        page(sub.clone(), &format!("{name} "), out);
    }
}

#[test]
fn every_command_has_an_about_and_examples_and_every_flag_a_help_and_a_variable() {
    let mut missing = Vec::new();
    look(&cli::command(), "", &mut missing);
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

fn look(command: &clap::Command, before: &str, missing: &mut Vec<String>) {
    let name = format!("{before}{}", command.get_name());
    if command.get_about().is_none() {
        missing.push(format!("{name}: no about"));
    }
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    if !after.to_uppercase().contains("EXAMPLES") {
        missing.push(format!("{name}: no examples"));
    }
    for arg in command.get_arguments().filter(|a| !a.is_hide_set() && a.get_long().is_some()) {
        let flag = arg.get_long().unwrap();
        if arg.get_help().is_none() {
            missing.push(format!("{name} --{flag}: no help"));
        }
        let variable = arg.get_env().map(|v| v.to_string_lossy().into_owned()).unwrap_or_default();
        let theirs = ["help", "version"].contains(&flag);
        if !theirs && !variable.starts_with("ERRAND_") {
            missing.push(format!("{name} --{flag}: no ERRAND_ variable"));
        }
    }
    for sub in command.get_subcommands() {
        look(sub, &format!("{name} "), missing);
    }
}

#[test]
fn clap_finds_nothing_wrong_with_the_tree() {
    cli::command().debug_assert();
}
