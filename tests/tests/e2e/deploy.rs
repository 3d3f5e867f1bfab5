//! What an operator copies works: the example configurations are accepted as they are.

use std::path::Path;
use tests::world::errand_binary;

fn check(daemon: &str, text: &str) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut command = std::process::Command::new(errand_binary());
    let output = command.args([daemon, "check", "--config"]).arg(file.path()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_example_configuration_is_accepted_and_a_misspelled_key_in_it_is_not() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let files = ["examples", "three-servers", "kubernetes"].map(|example| ["server", "agent"].map(|d| (example, d)));
    for (example, daemon) in files.concat() {
        let path = folder.join(example).join(format!("{daemon}.toml"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (code, said) = check(daemon, &text);
        assert_eq!(code, Some(0), "{}: {said}", path.display());
        let (code, said) = check(daemon, &text.replacen("trust_domain", "trust_domian", 1));
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains("trust_domian"), "{said}");
    }
}
