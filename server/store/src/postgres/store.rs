//! The store as its users see it: the ports, and the few chores a server runs.

use super::{
    archive,
    config::PostgresConfig,
    connect::{Connector, Pool},
    duty::{self, Table},
    error::{PostgresError, unreadable, unwritten},
    feed,
    heads::Heads,
    index, notes, open, proofs, pruned,
    remember::Remembered,
    search, snapshot, tree,
    writer::{self, Writer},
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
        Archive, AuthorityRow, Commit, CommitError, Durable, Duties, Feed, Filter, JournalSigner, Ledger, Outlets,
        Path, ReadError, Records, Snapshot, Snapshots, StoreMeta, StoredRecord, TreeRoot,
    },
};
use sqlx::Connection as _;
use std::sync::Arc;
use tokio::{
    sync::{Mutex, Notify, mpsc, watch},
    task::AbortHandle,
};

/// An open PostgreSQL store. Dropping it lets the writer commit what was queued.
pub struct PostgresStore {
    jobs: mpsc::Sender<Unit>,
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    tree: Mutex<Tree>,
    meta: StoreMeta,
    entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
    duties: Arc<Table>,
    heads: Heads,
    /// Wakes the writer to follow what others committed.
    announced: Arc<Notify>,
    /// What listens for others, what holds on to duties, and what keeps the index.
    beside: Vec<AbortHandle>,
}

impl PostgresStore {
    /// Opens the store in this database, or makes one where there is none.
    pub async fn open(config: PostgresConfig, options: OpenOptions) -> Result<Arc<Self>, PostgresError> {
        let connector = Arc::new(Connector::new(config, options.clock.clone()));
        let opened = open::open(&connector, &options).await?;
        let shared = Arc::new(Shared::new(opened.start, opened.size, opened.meta.clock_high_water));
        let (jobs, queue) = mpsc::channel(QUEUE);
        let announced = Arc::new(Notify::new());
        let writer = Writer {
            connector: connector.clone(),
            conn: None,
            session: None,
            shared: shared.clone(),
            clock: options.clock.clone(),
            last: opened.last,
            remembered: Remembered::new(opened.memory, opened.meta.clone()),
        };
        tokio::spawn(writer.run(queue, announced.clone()));
        let duties = Arc::new(Table::default());
        let listening = writer::listen(connector.clone(), options.clock.clone(), shared.clone(), announced.clone());
        let listener = tokio::spawn(listening);
        let holder = tokio::spawn(duty::hold(connector.clone(), options.clock.clone(), duties.clone()));
        let pool = Arc::new(Pool::new(connector));
        let mut beside = vec![listener.abort_handle(), holder.abort_handle()];
        if !options.as_it_is {
            let kept = index::keep(pool.clone(), shared.clone(), duties.clone(), options.clock.clone());
            beside.push(tokio::spawn(kept).abort_handle());
        }
        Ok(Arc::new(Self {
            jobs,
            shared,
            pool,
            tree: Mutex::new(Tree::new(opened.edge, Vec::new(), opened.root_at)),
            meta: opened.meta,
            entropy: options.entropy,
            clock: options.clock,
            duties,
            heads: Heads::default(),
            announced: announced.clone(),
            beside,
        }))
    }

    async fn write_root(&self, signer: Option<&dyn JournalSigner>) -> Result<Option<TreeRoot>, CommitError> {
        let gone = |e: ReadError| CommitError::Unavailable(e.to_string());
        let mut tree = self.tree.lock().await;
        // Nothing came since: the database is not asked.
        if tree.edge.size() == self.shared.size()
            && let Some(root) = tree.root()
            && tree.is_written(root, signer)
        {
            return Ok(Some(root));
        }
        let mut held = self.pool.get().await.map_err(gone)?;
        tree::grow(&mut tree, &mut held, self.shared.size()).await.map_err(gone)?;
        let Some(root) = tree.root() else { return Ok(None) };
        if let Some(due) = tree.due(root, signer)? {
            tree::write(&tree, &mut held, root, due.note.clone()).await?;
            tree.wrote(root, due);
        }
        held.keep();
        Ok(Some(root))
    }

    async fn keep_cosignatures(&self, note: SignedNote) -> Result<Option<SignedNote>, CommitError> {
        let gone = |e: ReadError| CommitError::Unavailable(e.to_string());
        let Ok(size) = note.claims().map(|checkpoint| checkpoint.size) else { return Ok(None) };
        let mut held = self.pool.get().await.map_err(gone)?;
        let signed = notes::over(&mut held, size).await.map_err(gone)?;
        if !signed.is_some_and(|mut kept| kept.join(note.clone())) {
            return Ok(None);
        }
        let mut step = held.begin().await.map_err(unwritten)?;
        notes::keep(&mut step, size, note, true).await.map_err(unwritten)?;
        step.commit().await.map_err(unwritten)?;
        let all = notes::over(&mut held, size).await.map_err(gone)?;
        held.keep();
        Ok(all)
    }

    async fn tidy(&self) -> Result<(), CommitError> {
        // The earlier of both clocks: a wall clock that jumped ahead must not make old tokens new.
        let end = self.clock.now().min(self.shared.high_water()).minus(KEPT).as_millis();
        let mut held = self.pool.get().await.map_err(|e| CommitError::Unavailable(e.to_string()))?;
        for sql in [
            "DELETE FROM claim WHERE (kind, key) IN
             (SELECT kind, key FROM claim WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)",
            "DELETE FROM task_serial WHERE (task, serial) IN
             (SELECT task, serial FROM task_serial WHERE not_after < $1 ORDER BY not_after LIMIT $2)",
            "DELETE FROM join_token WHERE digest IN (SELECT digest FROM join_token WHERE expires_at < $1 LIMIT $2)",
            "DELETE FROM revoked_token WHERE jti IN
             (SELECT jti FROM revoked_token WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)",
        ] {
            sqlx::query(sql).bind(end).bind(i64::from(SWEEP)).execute(&mut *held).await.map_err(unwritten)?;
        }
        held.keep();
        Ok(())
    }

    async fn sweep(&self) -> Result<(), CommitError> {
        let mut held = self.pool.get().await.map_err(|e| CommitError::Unavailable(e.to_string()))?;
        while pruned::sweep(&mut held).await.map_err(unwritten)? {}
        held.keep();
        Ok(())
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.beside.iter().for_each(AbortHandle::abort);
    }
}

impl Store for PostgresStore {
    fn unusable(&self) -> Option<String> {
        self.shared.dead()
    }
    fn fails(&self) -> Fut<'_, String> {
        Box::pin(self.shared.died())
    }
    fn authorities(&self) -> Fut<'_, Result<Vec<AuthorityRow>, ReadError>> {
        self.pool.with(|conn| Box::pin(snapshot::authorities(conn)))
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
        self.pool.with(move |conn| Box::pin(async move { notes::fence(conn, &job).await }))
    }
    fn is_shared(&self) -> bool {
        true
    }
    fn servers(&self) -> Fut<'_, Result<usize, ReadError>> {
        self.pool.with(|conn| Box::pin(async move { duty::servers(conn).await.map_err(unreadable) }))
    }
    fn space(&self) -> Option<(u64, u64)> {
        None
    }
    fn limit_size(&self, _: u64) -> Fut<'_, Result<(), CommitError>> {
        Box::pin(async { Err(CommitError::Unavailable("how large a database grows is its administrator's".into())) })
    }
}

impl Duties for PostgresStore {
    fn holds(&self, duty: &str) -> bool {
        self.duties.holds(duty)
    }
    fn holds_part(&self, work: &str, part: u32, of: u32) -> bool {
        self.duties.holds_part(work, part, of)
    }
}

impl Ledger for PostgresStore {
    fn commit(&self, unit: Commit) -> Fut<'_, Result<Durable, CommitError>> {
        Box::pin(async move {
            let (unit, answer) = Unit::prepare(unit, &*self.entropy)?;
            let gone = |_| CommitError::Unavailable("its writer has stopped; restart the server".into());
            self.jobs.send(unit).await.map_err(gone)?;
            answer.await.map_err(|_| CommitError::Unknown)?
        })
    }
    fn trouble(&self) -> Option<String> {
        self.shared.dead().or_else(|| self.shared.trouble())
    }
}

impl Feed for PostgresStore {
    fn from(&self, from: Position, max: u32) -> Fut<'_, Result<Records, ReadError>> {
        Box::pin(feed::follow(&self.shared, &self.pool, from, max))
    }
    fn size(&self) -> watch::Receiver<u64> {
        self.shared.watch()
    }
    fn current(&self) -> Fut<'_, Result<u64, ReadError>> {
        Box::pin(async move {
            let size = self.heads.newest(&self.pool).await?;
            if size > self.shared.size() {
                // Whoever asks waits for it: not for the next announcement.
                self.announced.notify_one();
            }
            Ok(size)
        })
    }
}

impl Snapshots for PostgresStore {
    fn load(&self) -> Fut<'_, Result<Snapshot, ReadError>> {
        self.pool.at_once(|conn| Box::pin(snapshot::load(conn)))
    }
    fn meta(&self) -> StoreMeta {
        StoreMeta { clock_high_water: self.shared.high_water(), ..self.meta.clone() }
    }
}

impl Archive for PostgresStore {
    fn search(
        &self,
        filter: &Filter,
        before: Option<Position>,
        max: u32,
    ) -> Fut<'_, Result<Vec<(Position, Record)>, ReadError>> {
        let (filter, shared) = (filter.clone(), self.shared.clone());
        self.pool.at_once(move |conn| {
            Box::pin(async move {
                let recent = |from, max| shared.recent(from, max);
                search::search(conn, &filter, before, max, &recent).await
            })
        })
    }
    fn stored(&self, from: Position, max: u32) -> Fut<'_, Result<Vec<StoredRecord>, ReadError>> {
        self.pool.with(move |conn| Box::pin(archive::stored(conn, from, max)))
    }
    fn pruned(&self) -> Fut<'_, Result<Frontier, ReadError>> {
        self.pool.at_once(|conn| Box::pin(pruned::tree(conn)))
    }
    fn older_than(&self, time: Timestamp) -> Fut<'_, Result<Position, ReadError>> {
        self.pool.with(move |conn| Box::pin(search::older_than(conn, time)))
    }
    fn root(&self) -> Fut<'_, Result<Option<TreeRoot>, ReadError>> {
        self.pool.with(|conn| Box::pin(archive::newest_root(conn)))
    }
    fn roots(&self, after: u64, max: u32) -> Fut<'_, Result<Vec<TreeRoot>, ReadError>> {
        self.pool.with(move |conn| Box::pin(archive::roots(conn, after, max)))
    }
    fn checkpoint(&self) -> Fut<'_, Result<Option<SignedNote>, ReadError>> {
        self.pool.with(|conn| Box::pin(notes::newest(conn)))
    }
    fn checkpoints(&self, after: u64, max: u32) -> Fut<'_, Result<Vec<SignedNote>, ReadError>> {
        self.pool.with(move |conn| Box::pin(notes::after(conn, after, max)))
    }
    fn witnessed(&self) -> Fut<'_, Result<Option<SignedNote>, ReadError>> {
        self.pool.with(|conn| Box::pin(notes::witnessed(conn)))
    }
    fn inclusions(&self, positions: Vec<Position>, size: u64) -> Fut<'_, Result<Option<Vec<Path>>, ReadError>> {
        self.pool.at_once(move |conn| Box::pin(async move { proofs::inclusions(conn, &positions, size).await }))
    }
    fn consistency(&self, old: u64, new: u64) -> Fut<'_, Result<Option<Path>, ReadError>> {
        self.pool.at_once(move |conn| Box::pin(proofs::consistency(conn, old, new)))
    }
    fn join_token<'a>(&'a self, digest: &'a str) -> Fut<'a, Result<Option<JoinToken>, ReadError>> {
        let digest = digest.to_string();
        self.pool.with(move |conn| Box::pin(async move { archive::join_token(conn, &digest).await }))
    }
    fn tasks(&self, filter: &Filter, before: Option<TaskId>, max: u32) -> Fut<'_, Result<Vec<Task>, ReadError>> {
        let filter = filter.clone();
        self.pool.with(move |conn| Box::pin(async move { archive::tasks(conn, &filter, before, max).await }))
    }
    fn task(&self, id: TaskId) -> Fut<'_, Result<Option<Task>, ReadError>> {
        self.pool.with(move |conn| Box::pin(archive::task(conn, id)))
    }
    fn leases(&self, filter: &Filter, before: Option<LeaseId>, max: u32) -> Fut<'_, Result<Vec<Lease>, ReadError>> {
        let filter = filter.clone();
        self.pool.with(move |conn| Box::pin(async move { archive::leases(conn, &filter, before, max).await }))
    }
    fn lease(&self, id: LeaseId) -> Fut<'_, Result<Option<Lease>, ReadError>> {
        self.pool.with(move |conn| Box::pin(archive::lease(conn, id)))
    }
    fn lease_named(&self, target: &str, name: &CredentialName) -> Fut<'_, Result<Option<Lease>, ReadError>> {
        let (target, name) = (target.to_string(), name.clone());
        self.pool.with(move |conn| Box::pin(async move { archive::lease_named(conn, &target, &name).await }))
    }
}

impl Outlets for PostgresStore {
    fn cursor<'a>(&'a self, sink: &'a str) -> Fut<'a, Result<Option<Position>, ReadError>> {
        let sink = sink.to_string();
        self.pool.with(move |conn| Box::pin(async move { notes::cursor(conn, &sink).await }))
    }
    fn keep_cursor<'a>(&'a self, sink: &'a str, next: Position) -> Fut<'a, Result<(), CommitError>> {
        Box::pin(async move {
            let mut held = self.pool.get().await.map_err(|e| CommitError::Unavailable(e.to_string()))?;
            notes::keep_cursor(&mut held, sink, next).await?;
            held.keep();
            Ok(())
        })
    }
}
