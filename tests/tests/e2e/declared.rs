//! Every file beside `main.rs` is a module of it: a test that is not declared is a test that never runs.

use std::path::Path;

#[test]
fn every_file_in_this_folder_is_declared() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e");
    let main = std::fs::read_to_string(folder.join("main.rs")).unwrap();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().and_then(|s| s.to_str()).unwrap();
        let is_rust = path.is_dir() || path.extension().is_some_and(|e| e == "rs");
        if is_rust && name != "main" {
            assert!(main.contains(&format!("\nmod {name};\n")), "{} is not declared in main.rs", path.display());
        }
    }
}
