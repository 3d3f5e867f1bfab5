//! The id of this boot, which makes a persisted (pid, start time) mean something after the agent's restart.

use crate::proc::{ReadError, read_bounded};

/// Reads `/proc/sys/kernel/random/boot_id`: a UUID in lowercase hyphenated form.
pub fn boot_id() -> Result<String, ReadError> {
    let bytes = read_bounded(nix::fcntl::AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64)?;
    let id = std::str::from_utf8(&bytes).ok().and_then(|t| uuid::Uuid::try_parse(t.trim_end()).ok());
    id.map(|id| id.hyphenated().to_string()).ok_or(ReadError::Malformed { file: "boot_id", what: "a UUID" })
}
