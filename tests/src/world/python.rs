//! Programs of PyPI, in virtual environments that are made once for a target directory.

use super::binary::target_dir;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The folder of foreign programs called `name`.
pub fn peers(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

/// A virtual environment with what `requirements.txt` of [`peers`] names.
pub fn venv(name: &str) -> PathBuf {
    let wanted = fs::read_to_string(peers(name).join("requirements.txt")).expect("the requirements are there");
    testkit::python::venv(&target_dir().join("peers"), name, &wanted).unwrap_or_else(|why| panic!("{why}"))
}
