//! `[[target]]` documents: what is refused, all of it at once, and what is read.

use crate::world::context;
use server_core::ports::{KindContext, TargetProblem};
use server_targets::{Registry, parse_toml};
use std::{fs, path::Path};

fn problems(toml: &str, context: &KindContext, origin: &str) -> Vec<TargetProblem> {
    match parse_toml(toml, origin) {
        Ok(docs) => Registry::builtin().build_all(docs, context).err().unwrap_or_default(),
        Err(problems) => problems,
    }
}

fn document(secret: &Path, target: &str, role: &str) -> String {
    format!(
        "[[target]]\nname = \"orders-db\"\nkind = \"postgres\"\nurl = \"postgres://errand@127.0.0.1/orders\"\n\
         password_file = \"{}\"\n{target}\n[[target.role]]\nname = \"readonly\"\nmember_of = [\"orders_reader\"]\n{role}\n",
        secret.display()
    )
}

#[test]
fn each_mistake_is_named_and_the_document_without_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("password");
    fs::write(&secret, "secret\n").unwrap();
    assert_eq!(problems(&document(&secret, "", ""), &context(), "config"), []);
    for (target, role, words) in [
        ("colour = 1", "", "unknown key `colour`"),
        ("", "colour = 1", "role `readonly`: unknown key `colour`"),
        ("password = \"x\"", "", "password_file"),
        ("", "password = \"x\"", "password_file"),
        ("sslmode = \"perhaps\"", "", "`sslmode` is one of"),
        ("sslmode = 1", "", "`sslmode` is not a string"),
        ("ca_file = \"ca.pem\"", "", "absolute path"),
        ("ca_file = \"/no/such/file\"", "", "cannot be read"),
        ("ca_file = \"/dev/zero\"", "", "not a regular file"),
        ("", "max_ttl = \"5\"", "`max_ttl`"),
        ("", "max_ttl = \"0s\"", "`max_ttl` is not between"),
        ("", "max_ttl = \"8d\"", "`max_ttl` is not between"),
        ("", "connection_limit = 0", "`connection_limit`"),
        ("", "connection_limit = \"4\"", "`connection_limit`"),
        ("", "search_path = \"public\"", "`search_path` is not a list"),
        ("", "search_path = [\"a\\u0000b\"]", "control characters"),
        ("", "statement_timeout = \"-1s\"", "`statement_timeout`"),
        ("", "[[target.role]]\nname = \"readonly\"\nmember_of = [\"x\"]", "declared twice"),
        ("", "[[target.role]]\nname = \"Bad Name\"\nmember_of = [\"x\"]", "`name`"),
        ("", "[[target.role]]\nname = \"empty\"\nmember_of = []", "`member_of` is missing"),
    ] {
        let found = problems(&document(&secret, target, role), &context(), "config");
        assert!(found.iter().any(|p| p.problem.contains(words)), "{target}{role}: {found:#?}");
        assert_eq!(found.len(), 1, "{found:#?}");
    }
    for (target, role) in [
        ("sslmode = \"disable\"", ""),
        ("", "max_ttl = \"30m\"\nconnection_limit = 4\nsearch_path = [\"app\", \"$user\"]\nstatement_timeout = \"5s\""),
        ("", "[[target.role]]\nname = \"writer\"\nmember_of = [\"it's \\\"x\\\"\"]"),
    ] {
        assert_eq!(problems(&document(&secret, target, role), &context(), "config"), []);
    }
}

#[test]
fn all_mistakes_are_said_at_once() {
    let text = r#"
        [[target]]
        name = "a"
        kind = "postgres"
        url = "mysql://x"
        colour = 1
        [[target.role]]
        max_ttl = "5"
        [[target]]
        name = "b"
        kind = "oracle"
        [[target]]
        name = "c"
        kind = "postgres"
        url = "postgres://errand@127.0.0.1/x"
    "#;
    let found = problems(text, &context(), "config");
    let words = [
        "`url` is not",
        "has no way to authenticate",
        "`name` is missing",
        "`member_of`",
        "`max_ttl`",
        "colour",
        "the kinds are: postgres, ssh",
    ];
    for word in words {
        assert!(found.iter().any(|p| p.problem.contains(word)), "{word}: {found:#?}");
    }
}

#[test]
fn a_file_that_is_not_a_list_of_targets_is_refused_without_echoing_its_lines() {
    for (text, words) in [
        ("[[target]]\nname = \"a\"\npassword = \"hunter2", "line 3"),
        ("[server]\nx = 1", "unknown key `server`"),
        ("target = 1", "array of tables"),
        ("[[target]]\nname = \"a\"\nname = \"b\"", "line 3"),
        ("[[target]]\nkind = \"postgres\"", "has no name"),
        ("[[target]]\nname = \"A b\"\nkind = \"postgres\"", "is not allowed"),
        ("[[target]]\nname = \"a\"", "has no kind"),
        ("[[target]]\nname = \"a\"\nkind = \"x\"\n[[target]]\nname = \"a\"\nkind = \"x\"", "declared twice"),
        ("[[target]]\nname = \"a\"\nkind = \"x\"\nPassword = \"hunter2\"", "never written inline"),
        ("[[target]]\nname = \"a\"\nkind = \"x\"\n[target.auth]\nclient_secret = \"hunter2\"", "never written inline"),
    ] {
        let found = parse_toml(text, "applied").unwrap_err();
        assert!(found.iter().any(|p| p.problem.contains(words)), "{text}: {found:#?}");
        assert!(!format!("{found:?}").contains("hunter2"));
    }
    assert_eq!(parse_toml("", "applied").unwrap(), []);
    let docs = parse_toml("[[target]]\nname = \"a\"\nkind = \"x\"", "applied").unwrap();
    assert_eq!((docs[0].name.as_str(), docs[0].kind.as_str(), docs[0].origin.as_str()), ("a", "x", "applied"));
}

#[test]
fn an_applied_target_names_files_under_the_secrets_directory_only() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (dir.path().join("secrets"), dir.path().join("outside"));
    fs::create_dir(&inside).unwrap();
    fs::write(&outside, "secret").unwrap();
    fs::write(inside.join("own"), "secret").unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
    let context = KindContext { secrets_dir: Some(inside.clone()), ..context() };
    for bad in [outside.clone(), inside.join("../outside"), inside.join("link"), inside.clone()] {
        let found = problems(&document(&bad, "", ""), &context, "applied");
        assert_eq!(found.len(), 1, "{}: {found:#?}", bad.display());
    }
    assert_eq!(problems(&document(&inside.join("own"), "", ""), &context, "applied"), []);
    // A configuration file's target may lie where the operator wants.
    assert_eq!(problems(&document(&outside, "", ""), &context, "config"), []);
}
