//! Letting old records go: what the journal says of it.
//!
//! Pure. Decides the vocabulary: the record that names how many went is all that excuses their absence to a verifier. Which
//! may go is the service's to decide, and that their hashes stay is the store's work.

use proto_types::{Position, Record, Timestamp, format_duration};
use serde_json::json;
use std::time::Duration;

const KIND: &str = "journal.pruned";

/// The record that says that those before a position are no longer kept, being older than `keep`.
pub fn pruning(before: Position, keep: Duration, now: Timestamp) -> Record {
    Record::new(now, KIND).detail(json!({ "before": before.0, "keep": format_duration(keep) }))
}

/// What such a record says; `None` for every other one.
pub fn pruned_before(record: &Record) -> Option<Position> {
    let before = (record.kind == KIND).then(|| record.detail.get("before"))??;
    before.as_u64().map(Position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pruning_says_is_read_back_and_no_other_record_says_it() {
        let record = pruning(Position(40), Duration::from_secs(86_400 * 30), Timestamp::from_secs(1));
        assert_eq!(pruned_before(&record), Some(Position(40)));
        assert_eq!(pruned_before(&Record { kind: "journal.redacted".into(), ..record.clone() }), None);
        assert_eq!(pruned_before(&record.detail(json!({ "before": "40" }))), None);
    }
}
