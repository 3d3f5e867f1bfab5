//! The store as its users see it: the ports, and the few chores a server runs.

use super::{
    archive,
    error::OpenError,
    feed, notes, open, outlets,
    pool::Pool,
    proofs, pruned, search, snapshot, tree,
    writer::{Chore, Job, Writer},
};
use crate::{
    Store,
    options::OpenOptions,
    shared::Shared,
    tree::Tree,
    unit::{KEPT, QUEUE, SWEEP, Unit},
};
use proto_types::{
    Clock, CredentialName, Entropy, Epoch, Fut, JoinToken, Lease, LeaseId, Position, Record, Task, TaskId, Timestamp,
};
use server_core::{
    journal::{Frontier, SignedNote},
    ports::{
        Alone, Archive, AuthorityRow, Commit, CommitError, Durable, Duties, Feed, Filter, JournalSigner, Ledger,
        Outlets, Path as ProofPath, ReadError, Snapshot, Snapshots, StoreMeta, StoredRecord, TreeRoot,
    },
};
use std::{
    fs::File,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};
use tokio::sync::{Mutex, mpsc, oneshot, watch};

/// An open SQLite store. Dropping it waits for the writer: what was queued is committed, the log folded in.
pub struct SqliteStore {
    /// `None` only while dropping.
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    pool: Pool,
    tree: Mutex<Tree>,
    meta: StoreMeta,
    entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
    /// Held until the writer is gone.
    _lock: File,
}

impl SqliteStore {
    /// Opens the store at `path`, or makes one where there is none. Blocks while it reads.
    pub fn open(path: impl AsRef<Path>, options: OpenOptions) -> Result<Arc<Self>, OpenError> {
        let path = path.as_ref();
        let opened = open::open(path, &options)?;
        let shared = Arc::new(Shared::new(opened.start, opened.size, opened.meta.clock_high_water));
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = Writer {
            conn: opened.conn,
            shared: shared.clone(),
            size: opened.size,
            high_water: opened.meta.clock_high_water,
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(queue))
            .map_err(|e| OpenError::Unreadable { path: path.into(), problem: e.to_string() })?;
        Ok(Arc::new(Self {
            jobs: Some(jobs),
            writer: Some(writer),
            shared,
            pool: Pool::new(path.into()),
            tree: Mutex::new(Tree::new(opened.edge, Vec::new(), opened.root_at)),
            meta: opened.meta,
            entropy: options.entropy,
            clock: options.clock,
            _lock: opened.lock,
        }))
    }

    /// Why nothing can be written any more: a failed sync, a damaged page.
    pub fn unusable(&self) -> Option<String> {
        self.shared.dead()
    }

    /// The signing keys as they lie here.
    pub async fn authorities(&self) -> Result<Vec<AuthorityRow>, ReadError> {
        self.pool.with(snapshot::authorities).await
    }

    /// Completes with that reason when there is one: such a server ends.
    pub async fn fails(&self) -> String {
        self.shared.died().await
    }

    /// Appends the newest leaves to the tree and writes its tiles and root down, with the root as a checkpoint when there
    /// is a key. Called each second and before the end. `None` for an empty journal.
    pub async fn write_root(&self, signer: Option<&dyn JournalSigner>) -> Result<Option<TreeRoot>, CommitError> {
        let mut tree = self.tree.lock().await;
        let grown = tree::grow(&mut tree, &self.pool, self.shared.size()).await;
        grown.map_err(|e| CommitError::Unavailable(e.to_string()))?;
        let Some(root) = tree.root() else { return Ok(None) };
        let Some(due) = tree.due(root, signer)? else { return Ok(Some(root)) };
        self.chore(tree::write(&tree, root, due.note.clone())).await?;
        tree.wrote(root, due);
        Ok(Some(root))
    }

    /// Keeps the signatures of witnesses on a checkpoint of this journal, and answers it with all there are. `None`: it is
    /// none of those that were signed.
    pub async fn keep_cosignatures(&self, note: SignedNote) -> Result<Option<SignedNote>, CommitError> {
        let Ok(size) = note.claims().map(|checkpoint| checkpoint.size) else { return Ok(None) };
        let over = async || {
            let kept = self.pool.with(move |conn| notes::over(conn, size)).await;
            kept.map_err(|e| CommitError::Unavailable(e.to_string()))
        };
        if !over().await?.is_some_and(|mut kept| kept.join(note.clone())) {
            return Ok(None);
        }
        self.chore(Box::new(move |conn| notes::keep(conn, size, note, true))).await?;
        over().await
    }

    /// Deletes claims, join tokens, serials and revoked tokens that ended some time ago. Called each minute.
    pub async fn tidy(&self) -> Result<(), CommitError> {
        // The earlier of both clocks: a wall clock that jumped ahead must not make old tokens new.
        let end = self.clock.now().min(self.shared.high_water()).minus(KEPT).as_millis();
        self.chore(Box::new(move |conn| {
            for sql in [
                "DELETE FROM claim WHERE (kind, key) IN
                 (SELECT kind, key FROM claim WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
                "DELETE FROM task_serial WHERE (task, serial) IN
                 (SELECT task, serial FROM task_serial WHERE not_after < ?1 ORDER BY not_after LIMIT ?2)",
                "DELETE FROM join_token WHERE digest IN
                 (SELECT digest FROM join_token WHERE expires_at < ?1 LIMIT ?2)",
                "DELETE FROM revoked_token WHERE jti IN
                 (SELECT jti FROM revoked_token WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
            ] {
                conn.prepare_cached(sql)?.execute((end, SWEEP))?;
            }
            Ok(())
        }))
        .await
    }

    /// Deletes the rows of records that are no longer kept, a group's worth at a time: commits go on between.
    pub async fn sweep(&self) -> Result<(), CommitError> {
        let more = Arc::new(AtomicBool::new(true));
        while more.load(Ordering::Acquire) {
            let more = more.clone();
            self.chore(Box::new(move |conn| pruned::sweep(conn).map(|left| more.store(left, Ordering::Release))))
                .await?;
        }
        Ok(())
    }

    /// What the store takes and what its volume has left, bytes.
    pub fn space(&self) -> std::io::Result<(u64, u64)> {
        let path = self.pool.path();
        let volume = nix::sys::statvfs::statvfs(path)?;
        Ok((path.metadata()?.len(), volume.blocks_available().saturating_mul(volume.fragment_size())))
    }

    /// Lets the file grow to `bytes` and no further; beyond that commits answer [`CommitError::Full`].
    pub async fn limit_size(&self, bytes: u64) -> Result<(), CommitError> {
        self.chore(Box::new(move |conn| {
            let page: u64 = conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
            let pages = i64::try_from(bytes / page.max(1)).unwrap_or(i64::MAX).min(0xffff_fffe);
            conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
        }))
        .await
    }

    async fn chore(&self, chore: Chore) -> Result<(), CommitError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Chore(chore, reply)).await?;
        answer.await.map_err(|_| CommitError::Unknown)?
    }

    async fn send(&self, job: Job) -> Result<(), CommitError> {
        let gone = || CommitError::Unavailable("its writer has stopped; restart the server".into());
        self.jobs.as_ref().ok_or_else(gone)?.send(job).await.map_err(|_| gone())
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // Readers first: the last connection to close folds the log into the file, and only the writer may.
        self.pool.clear();
        self.jobs = None;
        if self.writer.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writer ended in a panic");
        }
    }
}

impl Store for SqliteStore {
    fn unusable(&self) -> Option<String> {
        self.unusable()
    }
    fn fails(&self) -> Fut<'_, String> {
        Box::pin(self.shared.died())
    }
    fn authorities(&self) -> Fut<'_, Result<Vec<AuthorityRow>, ReadError>> {
        Box::pin(self.pool.with(snapshot::authorities))
    }
    fn write_root<'a>(
        &'a self,
        signer: Option<&'a dyn JournalSigner>,
    ) -> Fut<'a, Result<Option<TreeRoot>, CommitError>> {
        Box::pin(self.write_root(signer))
    }
    fn keep_cosignatures(&self, note: SignedNote) -> Fut<'_, Result<Option<SignedNote>, CommitError>> {
        Box::pin(self.keep_cosignatures(note))
    }
    fn tidy(&self) -> Fut<'_, Result<(), CommitError>> {
        Box::pin(self.tidy())
    }
    fn sweep(&self) -> Fut<'_, Result<(), CommitError>> {
        Box::pin(self.sweep())
    }
    fn fence<'a>(&'a self, job: &'a str) -> Fut<'a, Result<Epoch, ReadError>> {
        let job = job.to_string();
        Box::pin(self.pool.with(move |conn| outlets::fence(conn, &job)))
    }
    fn is_shared(&self) -> bool {
        false
    }
    fn space(&self) -> Option<(u64, u64)> {
        self.space().ok()
    }
    fn limit_size(&self, bytes: u64) -> Fut<'_, Result<(), CommitError>> {
        Box::pin(self.limit_size(bytes))
    }
}

impl Duties for SqliteStore {
    fn holds(&self, duty: &str) -> bool {
        Alone.holds(duty)
    }
    fn holds_part(&self, work: &str, part: u32, of: u32) -> bool {
        Alone.holds_part(work, part, of)
    }
}

impl Ledger for SqliteStore {
    fn commit(&self, unit: Commit) -> Fut<'_, Result<Durable, CommitError>> {
        Box::pin(async move {
            let (unit, answer) = Unit::prepare(unit, &*self.entropy)?;
            self.send(Job::Unit(unit)).await?;
            answer.await.map_err(|_| CommitError::Unknown)?
        })
    }
    fn trouble(&self) -> Option<String> {
        self.unusable()
    }
}

impl Feed for SqliteStore {
    fn from(&self, from: Position, max: u32) -> Fut<'_, Result<Vec<(Position, Arc<Record>)>, ReadError>> {
        Box::pin(feed::follow(&self.shared, &self.pool, from, max))
    }
    fn size(&self) -> watch::Receiver<u64> {
        self.shared.watch()
    }
}

impl Snapshots for SqliteStore {
    fn load(&self) -> Fut<'_, Result<Snapshot, ReadError>> {
        Box::pin(self.pool.with(snapshot::load))
    }
    fn meta(&self) -> StoreMeta {
        StoreMeta { clock_high_water: self.shared.high_water(), ..self.meta.clone() }
    }
}

impl Archive for SqliteStore {
    fn search(
        &self,
        filter: &Filter,
        before: Option<Position>,
        max: u32,
    ) -> Fut<'_, Result<Vec<(Position, Record)>, ReadError>> {
        let filter = filter.clone();
        Box::pin(self.pool.with(move |conn| search::search(conn, &filter, before, max)))
    }
    fn stored(&self, from: Position, max: u32) -> Fut<'_, Result<Vec<StoredRecord>, ReadError>> {
        Box::pin(self.pool.with(move |conn| archive::stored(conn, from, max)))
    }
    fn pruned(&self) -> Fut<'_, Result<Frontier, ReadError>> {
        Box::pin(self.pool.with(pruned::tree))
    }
    fn older_than(&self, time: Timestamp) -> Fut<'_, Result<Position, ReadError>> {
        Box::pin(self.pool.with(move |conn| search::older_than(conn, time)))
    }
    fn root(&self) -> Fut<'_, Result<Option<TreeRoot>, ReadError>> {
        Box::pin(self.pool.with(archive::newest_root))
    }
    fn roots(&self, after: u64, max: u32) -> Fut<'_, Result<Vec<TreeRoot>, ReadError>> {
        Box::pin(self.pool.with(move |conn| archive::roots(conn, after, max)))
    }
    fn checkpoint(&self) -> Fut<'_, Result<Option<SignedNote>, ReadError>> {
        Box::pin(self.pool.with(notes::newest))
    }
    fn checkpoints(&self, after: u64, max: u32) -> Fut<'_, Result<Vec<SignedNote>, ReadError>> {
        Box::pin(self.pool.with(move |conn| notes::after(conn, after, max)))
    }
    fn witnessed(&self) -> Fut<'_, Result<Option<SignedNote>, ReadError>> {
        Box::pin(self.pool.with(notes::witnessed))
    }
    fn inclusions(&self, positions: Vec<Position>, size: u64) -> Fut<'_, Result<Option<Vec<ProofPath>>, ReadError>> {
        Box::pin(self.pool.with(move |conn| proofs::inclusions(conn, &positions, size)))
    }
    fn consistency(&self, old: u64, new: u64) -> Fut<'_, Result<Option<ProofPath>, ReadError>> {
        Box::pin(self.pool.with(move |conn| proofs::consistency(conn, old, new)))
    }
    fn join_token<'a>(&'a self, digest: &'a str) -> Fut<'a, Result<Option<JoinToken>, ReadError>> {
        let digest = digest.to_string();
        Box::pin(self.pool.with(move |conn| archive::join_token(conn, &digest)))
    }
    fn tasks(&self, filter: &Filter, before: Option<TaskId>, max: u32) -> Fut<'_, Result<Vec<Task>, ReadError>> {
        let filter = filter.clone();
        Box::pin(self.pool.with(move |conn| archive::tasks(conn, &filter, before, max)))
    }
    fn task(&self, id: TaskId) -> Fut<'_, Result<Option<Task>, ReadError>> {
        Box::pin(self.pool.with(move |conn| archive::task(conn, id)))
    }
    fn leases(&self, filter: &Filter, before: Option<LeaseId>, max: u32) -> Fut<'_, Result<Vec<Lease>, ReadError>> {
        let filter = filter.clone();
        Box::pin(self.pool.with(move |conn| archive::leases(conn, &filter, before, max)))
    }
    fn lease(&self, id: LeaseId) -> Fut<'_, Result<Option<Lease>, ReadError>> {
        Box::pin(self.pool.with(move |conn| archive::lease(conn, id)))
    }
    fn lease_named(&self, target: &str, name: &CredentialName) -> Fut<'_, Result<Option<Lease>, ReadError>> {
        let (target, name) = (target.to_string(), name.clone());
        Box::pin(self.pool.with(move |conn| archive::lease_named(conn, &target, &name)))
    }
}

impl Outlets for SqliteStore {
    fn cursor<'a>(&'a self, sink: &'a str) -> Fut<'a, Result<Option<Position>, ReadError>> {
        let sink = sink.to_string();
        Box::pin(self.pool.with(move |conn| outlets::cursor(conn, &sink)))
    }
    fn keep_cursor<'a>(&'a self, sink: &'a str, next: Position) -> Fut<'a, Result<(), CommitError>> {
        Box::pin(self.chore(outlets::keep_cursor(sink, next)))
    }
}
