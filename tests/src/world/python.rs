//! Programs of PyPI, in virtual environments that are made once for a target directory.

use super::binary::target_dir;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

/// One is made at a time.
static MAKING: Mutex<()> = Mutex::new(());

/// The folder of foreign programs called `name`.
pub fn peers(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

/// A virtual environment with what `requirements.txt` of [`peers`] names.
pub fn venv(name: &str) -> PathBuf {
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let requirements = peers(name).join("requirements.txt");
    let wanted = fs::read_to_string(&requirements).expect("the requirements are there");
    let folder = target_dir().join("peers");
    let (venv, done) = (folder.join(name), folder.join(format!("{name}.done")));
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return venv;
    }
    fs::create_dir_all(&folder).expect("the target directory can be written");
    must_run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
    must_run(
        Command::new(venv.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&requirements),
    );
    fs::write(&done, wanted).expect("the target directory can be written");
    venv
}

#[track_caller]
fn must_run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| {
        panic!("{command:?}: {e}; python3 with venv is needed (apt-get install python3-venv, or scripts/deps.sh)")
    });
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
}
