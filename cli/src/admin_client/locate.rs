//! Where the server's admin socket and the agent's socket are.
//!
//! Decides the order: what was named; what is installed; a running `errand dev` of the same user. Does not connect.

use crate::error::{CliError, Result};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Where an installed server and agent have their sockets.
pub const INSTALLED_SERVER: &str = "/run/errand/server.sock";
pub const INSTALLED_AGENT: &str = "/run/errand/agent.sock";
/// A `dev.env` is a handful of lines.
const MAX_DEV_ENV: u64 = 64 * 1024;

/// What discovery looks at, so that tests own it.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub installed_server: PathBuf,
    pub installed_agent: PathBuf,
    pub xdg_data_home: Option<OsString>,
    pub home: Option<OsString>,
    pub uid: u32,
}

impl Surroundings {
    pub fn of_process() -> Self {
        Self {
            installed_server: INSTALLED_SERVER.into(),
            installed_agent: INSTALLED_AGENT.into(),
            xdg_data_home: std::env::var_os("XDG_DATA_HOME"),
            home: std::env::var_os("HOME"),
            uid: nix::unistd::geteuid().as_raw(),
        }
    }

    /// `$XDG_DATA_HOME/errand/dev`, by default `~/.local/share/errand/dev`. Relative paths count as unset
    /// (XDG Base Directory, section 2).
    pub fn dev_dir(&self) -> Option<PathBuf> {
        let absolute = |p: &OsString| Path::new(p).is_absolute().then(|| PathBuf::from(p));
        let data = self.xdg_data_home.as_ref().and_then(absolute);
        let data = data.or_else(|| Some(absolute(self.home.as_ref()?)?.join(".local/share")))?;
        Some(data.join("errand/dev"))
    }

    /// What `errand dev` wrote down, or why it does not count.
    pub fn dev_env(&self) -> std::result::Result<BTreeMap<String, String>, String> {
        let dir = self.dev_dir().ok_or("neither XDG_DATA_HOME nor HOME names a directory")?;
        let path = dir.join("dev.env");
        let meta = std::fs::metadata(&path).map_err(|e| format!("{}: {}", path.display(), short(&e)))?;
        // Another user's file could send an operator's commands, and a workload's identity, to another socket.
        if meta.uid() != self.uid || meta.mode() & 0o022 != 0 {
            return Err(format!("{}: belongs to another user, or others may write to it", path.display()));
        }
        if meta.len() > MAX_DEV_ENV {
            return Err(format!("{}: larger than {MAX_DEV_ENV} bytes", path.display()));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {}", path.display(), short(&e)))?;
        Ok(parse_env(&text))
    }
}

/// The admin socket: `named`, else installed, else of a running `errand dev`.
pub fn admin(named: Option<&str>, around: &Surroundings) -> Result<PathBuf> {
    if let Some(named) = named.filter(|n| !n.is_empty()) {
        return socket_path(named);
    }
    find("server", &around.installed_server, "ERRAND_SERVER_SOCKET", "--server-socket", around)
}

/// The agent's socket: `named`, else installed, else of a running `errand dev`.
pub fn agent(named: Option<&str>, around: &Surroundings) -> Result<PathBuf> {
    if let Some(named) = named.filter(|n| !n.is_empty()) {
        return socket_path(named);
    }
    find("agent", &around.installed_agent, "SPIFFE_ENDPOINT_SOCKET", "SPIFFE_ENDPOINT_SOCKET", around)
}

fn find(what: &str, installed: &Path, variable: &str, how: &str, around: &Surroundings) -> Result<PathBuf> {
    let mut tried = Vec::new();
    match std::fs::metadata(installed) {
        Ok(_) => return Ok(installed.into()),
        // Someone else's private directory still is an installation: connecting will say so.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => return Ok(installed.into()),
        Err(e) => tried.push(format!("{}: {}", installed.display(), short(&e))),
    }
    match around.dev_env() {
        Ok(env) => match env.get(variable) {
            Some(socket) => {
                let path = socket_path(socket)?;
                if path.exists() {
                    return Ok(path);
                }
                tried.push(format!("{}: `errand dev` is not running", path.display()));
            }
            None => tried.push(format!("dev.env: has no {variable}")),
        },
        Err(why) => tried.push(why),
    }
    Err(CliError::unreachable(format!("no {what} was found"))
        .at(tried.join("; "))
        .hint(format!("start `errand dev`, or name a socket with {how}")))
}

/// A path, or `unix:///path` (SPIFFE Workload Endpoint, section 4). Relative paths are the caller's own business.
pub fn socket_path(text: &str) -> Result<PathBuf> {
    let bad = |why: &str| {
        CliError::usage(format!("`{}` is not a socket: {why}", proto_types::id::excerpt(text)))
            .hint("write /path/to.sock or unix:///path/to.sock")
    };
    match text.strip_prefix("unix:") {
        None if text.contains("://") => Err(bad("only unix sockets are spoken here")),
        None => Ok(text.into()),
        Some(rest) => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.starts_with('/') && !path.contains(['?', '#']) {
                Ok(path.into())
            } else {
                Err(bad("its path is not absolute"))
            }
        }
    }
}

/// `NAME=value` lines as a shell would read them: `export` before and one pair of quotes around are allowed.
fn parse_env(text: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=')?;
        let quoted = ['\'', '"'].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q));
        (!name.starts_with('#')).then(|| (name.to_string(), quoted.unwrap_or(value).to_string()))
    };
    text.lines().filter_map(line).collect()
}

fn short(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "not there",
        std::io::ErrorKind::PermissionDenied => "not readable for this user",
        _ => "cannot be read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_url_and_a_path_name_the_same_socket_and_other_urls_are_refused() {
        for good in ["/a/b.sock", "unix:///a/b.sock", "unix:/a/b.sock"] {
            assert_eq!(socket_path(good).unwrap(), Path::new("/a/b.sock"), "{good}");
        }
        for bad in ["tcp://127.0.0.1:1", "unix://host/b.sock", "unix:b.sock", "unix:///a?x"] {
            assert_eq!(socket_path(bad).unwrap_err().exit(), crate::error::Exit::Usage, "{bad}");
        }
    }

    #[test]
    fn a_dev_env_reads_as_a_shell_would_read_it() {
        let env = parse_env("# made by errand dev\nexport A='x y'\nB=\"z\"\nC=w\n\nnonsense\n");
        assert_eq!(env.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["A=x y", "B=z", "C=w"]);
    }
}
