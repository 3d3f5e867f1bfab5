//! How far this machine's clock and the server's are apart. Pure: the times come in as values.

use proto_types::{Timestamp, format_duration};
use std::{fmt, time::Duration};

/// How far apart nothing is said: certificates begin as much before they are made, and leases and tokens allow for it.
pub const TOLERATED: Duration = Duration::from_secs(30);

/// One clock beside the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    /// This machine's is ahead of the server's, by as much at least.
    Ahead(Duration),
    Behind(Duration),
}

/// `theirs` is what the server's clock said between `asked` and `answered` of this machine's. `None`: within what is
/// tolerated, or within what the answer took.
pub fn skew(asked: Timestamp, theirs: Timestamp, answered: Timestamp) -> Option<Skew> {
    let (ahead, behind) = (asked.since(theirs), theirs.since(answered));
    if ahead > TOLERATED {
        Some(Skew::Ahead(ahead))
    } else if behind > TOLERATED {
        Some(Skew::Behind(behind))
    } else {
        None
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, how) = match self {
            Self::Ahead(by) => (by, "ahead of"),
            Self::Behind(by) => (by, "behind"),
        };
        // Whole seconds: more is not known, and more is not read.
        let by = format_duration(Duration::from_secs(by.as_secs()));
        write!(
            f,
            "this machine's clock is {by} {how} the server's; compare `date -u` on both and set the wrong one right"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_minute_is_tolerated_and_what_an_answer_took_is_no_skew() {
        let at = Timestamp::from_secs;
        let half = TOLERATED.as_secs() as i64;
        for (asked, theirs, answered) in
            [(100, 100, 100), (100 + half, 100, 100 + half), (100, 100 + half, 100), (100, 190, 200)]
        {
            assert_eq!(skew(at(asked), at(theirs), at(answered)), None, "{asked} {theirs} {answered}");
        }
        let (minutes, hour) = (Duration::from_secs(300), Duration::from_secs(3600));
        assert_eq!(skew(at(400), at(100), at(401)), Some(Skew::Ahead(minutes)));
        assert_eq!(skew(at(99), at(3700), at(100)), Some(Skew::Behind(hour)));
        assert!(Skew::Ahead(minutes).to_string().starts_with("this machine's clock is 5m ahead of the server's; "));
        assert!(Skew::Behind(hour).to_string().starts_with("this machine's clock is 1h behind the server's; "));
    }
}
