//! The `errand` binary, built once for a test process with the profile of the tests.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Names a binary to be tested instead of one built now.
const BINARY_VARIABLE: &str = "ERRAND_TEST_BINARY";

/// The binary under test. A link of its own: a build that runs beside the tests does not exchange it under them.
pub fn errand_binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| match std::env::var_os(BINARY_VARIABLE) {
        Some(path) => path.into(),
        None => own_link(&cargo_build("errand")),
    })
}

/// Builds one binary of the workspace and answers where it is. With the features that the whole workspace asks for: what
/// `cargo test --workspace` has compiled is not compiled again.
pub fn cargo_build(name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--workspace", "--bin", name]).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.arg("--target-dir").arg(target_dir());
    let profile = profile_dir();
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().expect("cargo runs");
    assert!(status.success(), "cargo build --workspace --bin {name} failed");
    profile.join(name)
}

/// Cargo's target directory.
pub fn target_dir() -> PathBuf {
    profile_dir().parent().expect("the profile's folder lies in the target directory").into()
}

/// `target/debug`: this test is `target/debug/deps/NAME`.
fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("this program has a path");
    exe.ancestors().nth(2).expect("a test lies in target/PROFILE/deps").into()
}

fn own_link(binary: &Path) -> PathBuf {
    let folder = target_dir().join("tmp");
    std::fs::create_dir_all(&folder).expect("the target directory can be written");
    forget_old(&folder);
    let link = folder.join(format!("errand-{}", std::process::id()));
    let _ = std::fs::remove_file(&link);
    std::fs::hard_link(binary, &link).expect("a link to the binary");
    link
}

/// Links of test processes that are gone.
fn forget_old(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.strip_prefix("errand-")).and_then(|n| n.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
