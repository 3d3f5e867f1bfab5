//! Programs of PyPI, in virtual environments that are made once for a folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

/// One is made at a time.
static MAKING: Mutex<()> = Mutex::new(());

/// The virtual environment `name` below `folder`, with what `requirements` names: lines as pip reads them. An error says
/// what is missing.
pub fn venv(folder: &Path, name: &str, requirements: &str) -> Result<PathBuf, String> {
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let (venv, done, wanted) =
        (folder.join(name), folder.join(format!("{name}.done")), folder.join(format!("{name}.txt")));
    if fs::read_to_string(&done).is_ok_and(|installed| installed == requirements) {
        return Ok(venv);
    }
    let cannot = |e: std::io::Error| format!("{}: {e}", folder.display());
    fs::create_dir_all(folder).map_err(cannot)?;
    fs::write(&wanted, requirements).map_err(cannot)?;
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut pip = Command::new(venv.join("bin/pip"));
    run(pip.args(["install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&wanted))?;
    fs::write(&done, requirements).map_err(cannot)?;
    Ok(venv)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| {
        format!("{command:?}: {e}; python3 with venv is needed (apt-get install python3-venv, or scripts/deps.sh)")
    })?;
    let said = || format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(said()) }
}
