//! A checkpoint: which log, how many leaves, which root; as text (C2SP tlog-checkpoint).
//!
//! Decides the text that is signed. Whether it was signed is the note's.

use crate::tree::Hash;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{fmt, str::FromStr};

/// What one log said at one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name; its key signs under the same.
    pub origin: String,
    pub size: u64,
    pub root: Hash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no checkpoint: three lines are wanted, the log's name, its size and its root in base64")]
pub struct CheckpointError;

/// The text, each line ended.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, STANDARD.encode(self.root))
    }
}

/// Lines behind the third are extensions: signed with the rest, and nothing to us.
impl FromStr for Checkpoint {
    type Err = CheckpointError;
    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError);
        };
        let number: u64 = size.parse().map_err(|_| CheckpointError)?;
        let root = STANDARD.decode(root).ok().and_then(|bytes| Hash::try_from(bytes).ok()).ok_or(CheckpointError)?;
        // One spelling of a number: no sign, no zeros before it.
        if origin.is_empty() || number.to_string() != size {
            return Err(CheckpointError);
        }
        Ok(Self { origin: origin.into(), size: number, root })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_reads_back_and_other_spellings_of_it_do_not() {
        let one = Checkpoint { origin: "log.example.org".into(), size: 20, root: [9; 32] };
        let text = one.to_string();
        assert_eq!(text, format!("log.example.org\n20\n{}\n", STANDARD.encode([9; 32])));
        assert_eq!(text.parse(), Ok(one.clone()));
        assert_eq!(format!("{text}an extension\n").parse(), Ok(one));
        for bad in [
            text.replace("20", "020"),
            text.replace("20", "+20"),
            text.replace("20", ""),
            text.replace("log.example.org", ""),
            text.replace('=', ""),
            "log.example.org\n20".into(),
        ] {
            assert_eq!(bad.parse::<Checkpoint>(), Err(CheckpointError), "{bad:?}");
        }
    }
}
