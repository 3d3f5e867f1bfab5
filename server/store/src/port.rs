//! A store as a server holds it, whichever backend it is: all ports in one, and the chores.

use proto_types::{Epoch, Fut, Position};
use server_core::{
    journal::{SignedNote, Verdict, Verifier},
    ports::{
        Archive, AuthorityRow, CommitError, Duties, Feed, JournalSigner, Ledger, Outlets, ReadError, Snapshots,
        TreeRoot,
    },
};

/// Records read at a time.
const PAGE: u32 = 4096;

/// The ports, and what a server does for its store now and then.
pub trait Store: Ledger + Feed + Snapshots + Archive + Outlets + Duties {
    /// Why nothing can be written any more: a failed sync, a database that lost what was acknowledged.
    fn unusable(&self) -> Option<String>;
    /// Completes with that reason when there is one: such a server ends.
    fn fails(&self) -> Fut<'_, String>;
    /// The signing keys as they lie here.
    fn authorities(&self) -> Fut<'_, Result<Vec<AuthorityRow>, ReadError>>;
    /// The epoch of a singleton job; 0 when nobody ever held it.
    fn fence<'a>(&'a self, job: &'a str) -> Fut<'a, Result<Epoch, ReadError>>;
    /// Whether other servers may write here, too.
    fn is_shared(&self) -> bool;
    /// How many servers are up on a shared store. A file is open in one process at a time.
    fn servers(&self) -> Fut<'_, Result<usize, ReadError>> {
        Box::pin(std::future::ready(Ok(0)))
    }
    /// Appends the newest leaves to the tree and writes its tiles and root down, with the root as a checkpoint when there
    /// is a key. Called each second and before the end. `None` for an empty journal.
    fn write_root<'a>(
        &'a self,
        signer: Option<&'a dyn JournalSigner>,
    ) -> Fut<'a, Result<Option<TreeRoot>, CommitError>>;
    /// Keeps the signatures of witnesses on a checkpoint of this journal, and answers it with all there are. `None`: it is
    /// none of those that were signed.
    fn keep_cosignatures(&self, note: SignedNote) -> Fut<'_, Result<Option<SignedNote>, CommitError>>;
    /// Deletes claims, join tokens, serials and revoked tokens that ended some time ago. Called every few minutes.
    fn tidy(&self) -> Fut<'_, Result<(), CommitError>>;
    /// Deletes the rows of records that are no longer kept, a group's worth at a time: commits go on between.
    fn sweep(&self) -> Fut<'_, Result<(), CommitError>>;
    /// What the store takes and what its volume has left, bytes; `None` when that is not this machine's to know.
    fn space(&self) -> Option<(u64, u64)>;
    /// Lets the store grow to `bytes` and no further; beyond that commits answer [`CommitError::Full`].
    fn limit_size(&self, bytes: u64) -> Fut<'_, Result<(), CommitError>>;
}

/// Rehashes every record that is kept, and compares the tree with the roots that were written down. `progress` hears how
/// many of how many are done.
pub async fn verify(store: &dyn Store, progress: &mut (dyn FnMut(u64, u64) + Send)) -> Result<Verdict, ReadError> {
    let size = *store.size().borrow();
    let pruned = store.pruned().await?;
    let mut from = pruned.size();
    let mut roots = store.roots(0, PAGE).await?;
    roots.extend(store.root().await?);
    let mut verifier = Verifier::behind(pruned, roots);
    while from < size {
        let page = store.stored(Position(from), PAGE).await?;
        let Some(last) = page.last() else { break };
        from = last.position.0 + 1;
        if !verifier.feed_all(&page) {
            break;
        }
        progress(from, size);
    }
    Ok(verifier.finish())
}
