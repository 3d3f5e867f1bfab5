//! Which agent a command speaks to: the one `SPIFFE_ENDPOINT_SOCKET` names and no other; without it the installed one,
//! and then a running `errand dev` of the same user.
//!
//! Decides the order only; whether something listens there is found out by connecting.

use super::ClientError;
use crate::admin_client::Surroundings;
use proto_types::id::excerpt;
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

/// Where an installed agent listens.
pub const INSTALLED: &str = "/run/errand/agent.sock";

/// The sockets to try, in order. `var` reads one environment variable.
pub fn candidates(var: &dyn Fn(&str) -> Option<OsString>) -> Result<Vec<PathBuf>, ClientError> {
    if let Some(value) = var("SPIFFE_ENDPOINT_SOCKET").filter(|v| !v.is_empty()) {
        return Ok(vec![socket_path(&value)?]);
    }
    let installed = PathBuf::from(INSTALLED);
    let dev = dev_env(var).and_then(|mut values| values.remove("SPIFFE_ENDPOINT_SOCKET"));
    let dev = dev.map(|value| socket_path(OsStr::new(&value))).transpose()?;
    Ok([installed.exists().then_some(installed), dev].into_iter().flatten().collect())
}

/// The path in a Workload API address (SPIFFE Workload Endpoint, section 4): `unix:///path` or `unix:/path`.
pub fn socket_path(value: &OsStr) -> Result<PathBuf, ClientError> {
    use std::os::unix::ffi::OsStrExt;
    let fail = || ClientError::Address { value: excerpt(&value.to_string_lossy()) };
    let rest = value.as_bytes().strip_prefix(b"unix:").ok_or_else(fail)?;
    let path = rest.strip_prefix(b"//").unwrap_or(rest);
    if !path.starts_with(b"/") || path.contains(&0) {
        return Err(fail());
    }
    Ok(Path::new(OsStr::from_bytes(path)).to_path_buf())
}

/// What a running `errand dev` wrote of itself, if the file is this user's own.
fn dev_env(var: &dyn Fn(&str) -> Option<OsString>) -> Option<BTreeMap<String, String>> {
    let here = Surroundings::of_process();
    Surroundings { xdg_data_home: var("XDG_DATA_HOME"), home: var("HOME"), ..here }.dev_env().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_unix_socket_with_an_absolute_path() {
        for bad in ["", "/run/a.sock", "unix:a.sock", "unix://a.sock", "tcp://127.0.0.1:1", "unix:", "http:///a"] {
            assert!(socket_path(OsStr::new(bad)).is_err(), "{bad}");
        }
        for good in ["unix:///run/a.sock", "unix:/run/a.sock"] {
            assert_eq!(socket_path(OsStr::new(good)).unwrap(), Path::new("/run/a.sock"));
        }
    }

    #[test]
    fn what_the_environment_names_is_the_only_candidate_and_without_it_a_dev_is_found() {
        let home = tempfile::tempdir().unwrap();
        let dev = home.path().join("errand/dev");
        std::fs::create_dir_all(&dev).unwrap();
        std::fs::write(dev.join("dev.env"), "SPIFFE_ENDPOINT_SOCKET=unix:///d/agent.sock\n").unwrap();
        let data_home = home.path().as_os_str().to_owned();
        let named = |name: &str| match name {
            "SPIFFE_ENDPOINT_SOCKET" => Some("unix:///e/agent.sock".into()),
            _ => Some(data_home.clone()),
        };
        assert_eq!(candidates(&named).unwrap(), [Path::new("/e/agent.sock")]);
        let unnamed = |name: &str| (name == "XDG_DATA_HOME").then(|| data_home.clone());
        assert_eq!(candidates(&unnamed).unwrap().last().unwrap(), Path::new("/d/agent.sock"));
    }
}
