//! Whether the wall clock can be believed, judged by the newest time that the journal knows.
//!
//! A clock that stands before that time runs back: what is over would live again. One that stands far after it leapt
//! ahead: everything would be over at once. In both cases nothing is issued. What ends something is still recorded, but
//! nothing is taken for expired by a clock that leapt. Reads no clock.

use proto_types::Timestamp;
use std::time::Duration;

/// How far the clock may stand before the newest record: clocks are corrected by as much.
pub const BACKWARDS: Duration = Duration::from_secs(30);
/// How far it may stand after it. One that recorded nothing for longer than this, because it was off or idle, is told
/// by its operator that the clock is right.
pub const FORWARDS: Duration = Duration::from_secs(30 * 86_400);

/// Why the clock is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error(
        "the clock runs back: it says {now}, the newest record was written at {newest}; set the clock right, or start with \
         --accept-clock if it is right now"
    )]
    Back { now: Timestamp, newest: Timestamp },
    #[error(
        "the clock leapt ahead: it says {now}, the newest record was written at {newest}; set the clock right, or start with \
         --accept-clock if the server was off for so long"
    )]
    Ahead { now: Timestamp, newest: Timestamp },
}

/// Judges `now` by the newest time that was recorded; a store in which there is none believes any clock.
pub fn judge(now: Timestamp, newest: Timestamp) -> Result<(), Doubt> {
    if newest == Timestamp::default() {
        return Ok(());
    }
    if now < newest.minus(BACKWARDS) {
        return Err(Doubt::Back { now, newest });
    }
    if now > newest.plus(FORWARDS) {
        return Err(Doubt::Ahead { now, newest });
    }
    Ok(())
}

/// The newest time after a record of `time`: a time that is not believed is none.
pub fn newest(newest: Timestamp, time: Timestamp) -> Timestamp {
    match judge(time, newest) {
        Ok(()) => newest.max(time),
        Err(_) => newest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWEST: Timestamp = Timestamp::from_secs(1_795_000_000);

    #[test]
    fn a_clock_is_believed_from_half_a_minute_before_the_newest_record_to_a_month_after() {
        for good in [NEWEST.minus(BACKWARDS), NEWEST, NEWEST.plus(FORWARDS)] {
            assert_eq!(judge(good, NEWEST), Ok(()), "{good}");
        }
        let millisecond = Duration::from_millis(1);
        let (early, late) = (NEWEST.minus(BACKWARDS).minus(millisecond), NEWEST.plus(FORWARDS).plus(millisecond));
        assert_eq!(judge(early, NEWEST), Err(Doubt::Back { now: early, newest: NEWEST }));
        assert_eq!(judge(late, NEWEST), Err(Doubt::Ahead { now: late, newest: NEWEST }));
        assert_eq!(judge(late, Timestamp::default()), Ok(()), "a new store has nothing to judge by");
    }

    #[test]
    fn a_time_that_is_not_believed_never_becomes_the_newest() {
        let (hour, year) = (Duration::from_secs(3600), Duration::from_secs(365 * 86_400));
        assert_eq!(newest(NEWEST, NEWEST.plus(hour)), NEWEST.plus(hour));
        for other in [NEWEST.minus(hour), NEWEST.plus(year), NEWEST.minus(Duration::from_secs(5))] {
            assert_eq!(newest(NEWEST, other), NEWEST, "{other}");
        }
        assert_eq!(newest(Timestamp::default(), NEWEST), NEWEST);
    }
}
