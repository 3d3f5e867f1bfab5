//! The law of the ports `Ledger`, `Feed`, `Snapshots` and `Archive`: what every backend must keep.
//!
//! Decides what is promised, not how it is done: a backend passes or panics with the sentence it broke.

#![expect(clippy::unwrap_used, reason = "a law panics where it is broken")]

mod archive;
mod guards;
pub mod nouns;
pub use state::fill;
mod order;
mod state;

use proto_types::{Position, Record};
use server_core::ports::{Archive, Commit, CommitError, Durable, Feed, Ledger, ReadError, Snapshots};
use std::{future::Future, sync::Arc};

/// One backend under test, by its ports. Dropping every `Arc` closes it.
pub struct Store {
    pub ledger: Arc<dyn Ledger>,
    pub feed: Arc<dyn Feed>,
    pub snapshots: Arc<dyn Snapshots>,
    pub archive: Arc<dyn Archive>,
}

impl Store {
    /// All four ports of one value.
    pub fn of<T: Ledger + Feed + Snapshots + Archive + 'static>(backend: Arc<T>) -> Self {
        Self { ledger: backend.clone(), feed: backend.clone(), snapshots: backend.clone(), archive: backend }
    }

    async fn commit(&self, unit: Commit) -> Result<Durable, CommitError> {
        self.ledger.commit(unit).await
    }

    /// Commits what must not be refused.
    async fn keep(&self, unit: Commit) -> Durable {
        self.commit(unit).await.expect("this unit has nothing against it")
    }

    fn size(&self) -> u64 {
        *self.feed.size().borrow()
    }

    /// The whole journal, as a follower reads it.
    async fn journal(&self) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::new();
        while (records.len() as u64) < self.size() {
            let from = Position(records.len() as u64);
            let page = self.feed.from(from, 100).await?;
            assert!(!page.is_empty(), "the feed ends before its size");
            for (position, record) in page {
                assert_eq!(position.0, records.len() as u64, "the feed has a gap");
                records.push((*record).clone());
            }
        }
        Ok(records)
    }
}

/// Runs the whole law. `make(name)` opens the store of that name: a new name is an empty store, and a name that was
/// closed before is the same store again. The trust domain is `example.org`.
pub async fn ledger_law<F, Fut>(make: F)
where
    F: Fn(&'static str) -> Fut,
    Fut: Future<Output = Store>,
{
    order::positions_have_no_gaps_under_64_committers(make("order").await).await;
    order::the_feed_is_read_from_any_position(make("feed").await).await;
    order::a_follower_is_woken_by_a_commit(make("wake").await).await;
    order::a_lost_guard_costs_its_own_unit_only(make("lost").await).await;
    order::a_unit_is_wholly_there_or_wholly_absent(make("whole").await).await;
    order::nothing_is_issued_when_the_clock_runs_back_and_what_ends_something_still_does(make("clock").await).await;
    order::nothing_is_issued_when_the_clock_leapt_ahead_and_what_it_said_is_not_remembered(make("leap").await).await;
    guards::every_guard_is_kept_and_lost(make("guards").await).await;
    guards::claims_of_different_kinds_do_not_meet(make("kinds").await).await;
    guards::of_many_claims_at_once_one_wins(make("claims").await).await;
    guards::a_join_token_is_taken_once_and_not_when_expired(make("tokens").await).await;
    guards::of_many_equal_entries_at_once_one_is_made(make("entries").await).await;
    state::a_snapshot_is_the_state_at_its_position(make("moment").await).await;
    state::a_snapshot_holds_what_lives_and_nothing_that_is_over(make("snapshot").await).await;
    state::what_was_durable_is_there_after_opening_again(&make).await;
    archive::records_are_found_by_what_they_name(make("search").await).await;
    archive::tasks_and_leases_are_listed_in_pages(make("lists").await).await;
    archive::stored_records_verify(make("stored").await).await;
    archive::what_is_redacted_is_gone_and_every_leaf_stays_true(&make).await;
}
