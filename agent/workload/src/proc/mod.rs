//! Reading `/proc/PID`: always through a directory opened once, always bounded, always parsed strictly.
//!
//! Parsers refuse what the kernel would not write; they never guess a field.

pub mod cgroup;
pub mod dir;
pub mod stat;
pub mod status;

pub use dir::{FileId, Proc, ProcDir, read_bounded};
pub use stat::Stat;
pub use status::Status;

/// Why something of `/proc` could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such process (any more), or `/proc` hides it.
    #[error("no such process")]
    Gone,
    #[error("{file} is longer than {limit} bytes")]
    TooLong { file: &'static str, limit: usize },
    #[error("{file} does not hold {what}")]
    Malformed { file: &'static str, what: &'static str },
    #[error("{file}: {errno}")]
    Io { file: &'static str, errno: nix::errno::Errno },
}

impl ReadError {
    pub(crate) fn from_errno(file: &'static str, errno: nix::errno::Errno) -> Self {
        use nix::errno::Errno;
        match errno {
            Errno::ENOENT | Errno::ESRCH => Self::Gone,
            errno => Self::Io { file, errno },
        }
    }
}

/// Reads one decimal number that fills the whole field: no sign but a leading `-` where `T` has one, no blank.
fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    if field.first() == Some(&b'+') {
        return None;
    }
    std::str::from_utf8(field).ok()?.parse().ok()
}
