//! The server's journal as this agent knows it: asked for when the server answers and every few minutes from then on,
//! remembered on disk, and what follows when it is not believed.
//!
//! Decides when is asked, and that an agent in doubt takes nothing new from the server. What is held is served until it
//! expires, and ends are still delivered.

use crate::{
    disk::{DiskError, JournalDoc},
    shared::Shared,
    trouble::About,
    upstream::timed,
};
use agent_core::{
    journal::{Accepted, Doubt, Seen, Shown, judge},
    skew::skew,
};
use arc_swap::ArcSwapOption;
use proto_tlog::{Hash, NoteError, SignedNote, Verified, VerifierKey};
use proto_types::{Timestamp, id::excerpt};
use proto_wire::errand::v1::{CheckpointRequest, CheckpointResponse};
use std::{sync::Arc, time::Duration};
use tokio::sync::Mutex;
use tonic::{Code, Status};

/// How often the server is asked while the watch stands.
const EVERY: Duration = Duration::from_secs(300);
/// Most keys, and most hashes, in one answer.
const MAX_KEYS: usize = 16;
const MAX_PATH: usize = 128;

/// What is remembered, and whether the server is in doubt.
#[derive(Default)]
pub struct Journal {
    seen: Mutex<Option<Seen>>,
    doubt: ArcSwapOption<Doubt>,
}

impl Journal {
    pub fn new(doc: Option<JournalDoc>) -> Self {
        let seen = doc.map(|d| Seen { key: d.key, store_id: d.store_id, epoch: d.epoch, size: d.size, root: d.root });
        // A server that had shown its journal must show it again before anything is taken from it.
        let doubt = seen.as_ref().map(|_| Arc::new(Doubt::Unasked));
        Self { seen: Mutex::new(seen), doubt: ArcSwapOption::from(doubt) }
    }

    /// What is wrong with the server's journal, if anything is known to be.
    pub fn doubt(&self) -> Option<Arc<Doubt>> {
        self.doubt.load_full().filter(|doubt| **doubt != Doubt::Unasked)
    }

    /// The connection is lost: whoever answers next shows its journal first. Withholding it is no way around.
    pub async fn disconnected(&self) {
        if self.seen.lock().await.is_some() && self.doubt.load().is_none() {
            self.doubt.store(Some(Arc::new(Doubt::Unasked)));
        }
    }

    /// Asked before every call that brings a new credential.
    pub fn believed(&self) -> Result<(), Status> {
        match self.doubt.load_full() {
            None => Ok(()),
            Some(doubt) => Err(refused(&doubt)),
        }
    }
}

fn refused(doubt: &Doubt) -> Status {
    Status::unavailable(format!("nothing new is taken from the server: {doubt}"))
}

/// Asks until the journal cannot be believed; then the watch is left, and opened again after a wait.
pub async fn follow(shared: &Shared) -> Status {
    loop {
        shared.ports.clock.sleep(EVERY).await;
        if let Err(status) = ask(shared).await {
            return status;
        }
    }
}

/// Asks once, judges, and remembers. An error is a doubt, or that the server did not answer.
pub async fn ask(shared: &Shared) -> Result<(), Status> {
    let mut seen = shared.journal.seen.lock().await;
    let request = CheckpointRequest { seen_size: seen.as_ref().map_or(0, |s| s.size) };
    let asked = shared.ports.clock.now();
    let judged = match shared.upstream.node().checkpoint(timed(request)).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            compare_clocks(shared, asked, answer.now);
            read(answer).and_then(|shown| judge(seen.as_ref(), &shown))
        }
        // A server of the version before shows none; one that showed some must go on.
        Err(status) if status.code() == Code::Unimplemented => match *seen {
            None => Ok(Accepted::Same),
            Some(_) => Err(Doubt::NotShown),
        },
        Err(status) => return Err(status),
    };
    match judged {
        Ok(accepted) => {
            if let Accepted::RolledBack { from_epoch, now } = &accepted {
                tracing::warn!(
                    from_epoch,
                    epoch = now.epoch,
                    records = now.size,
                    "an operator rolled the server's store back; what this agent saw of the journal before is over"
                );
            }
            if let Accepted::Grown(now) | Accepted::RolledBack { now, .. } = accepted {
                // On disk first: what was believed is still known after a crash. While it is not there, nothing new is taken
                // (`Shared::takes_new`), so that nothing is held that a restart would not know of.
                if let Err(e) = keep(shared, &now).await {
                    tracing::error!(error = %e, "what was seen of the server's journal cannot be written down");
                }
                *seen = Some(now);
            }
            if shared.journal.doubt.swap(None).is_some_and(|doubt| *doubt != Doubt::Unasked) {
                tracing::info!("the server's journal is believed again");
            }
            Ok(())
        }
        Err(doubt) => {
            tracing::error!(why = %excerpt(&doubt.to_string()), "the server's journal is not believed");
            let status = refused(&doubt);
            shared.journal.doubt.store(Some(Arc::new(doubt)));
            Err(status)
        }
    }
}

/// Says by how much the clocks differ. What comes of it (certificates that are over, or not yet good) says it elsewhere.
fn compare_clocks(shared: &Shared, asked: Timestamp, theirs: i64) {
    // A server of the version before tells no time.
    let told = Some(Timestamp::from_millis(theirs)).filter(|_| theirs > 0);
    match told.and_then(|theirs| skew(asked, theirs, shared.ports.clock.now())) {
        Some(skew) => {
            tracing::warn!("{skew}");
            shared.troubles.set(About::Clock, skew);
        }
        None => shared.troubles.clear(About::Clock),
    }
}

async fn keep(shared: &Shared, now: &Seen) -> Result<(), DiskError> {
    let doc = JournalDoc {
        version: JournalDoc::VERSION,
        key: now.key.clone(),
        store_id: now.store_id.clone(),
        epoch: now.epoch,
        size: now.size,
        root: now.root,
    };
    shared.on_disk(move |disk| disk.keep(JournalDoc::FILE, &doc)).await
}

/// Bounds first; then the signature, by one of the keys that the server, proven by its certificate, calls its own.
fn read(answer: CheckpointResponse) -> Result<Shown, Doubt> {
    if answer.keys.len() > MAX_KEYS || answer.consistency.len() > MAX_PATH {
        return Err(Doubt::Malformed("it has too many keys or hashes"));
    }
    let hash = |bytes: Vec<u8>| Hash::try_from(bytes).map_err(|_| Doubt::Malformed("a hash is 32 bytes"));
    let consistency = answer.consistency.into_iter().map(hash).collect::<Result<_, _>>()?;
    let checkpoint = if answer.note.is_empty() { None } else { Some(verified(&answer.note, &answer.keys)?) };
    Ok(Shown { store_id: answer.store_id, epoch: answer.epoch, checkpoint, consistency })
}

fn verified(note: &str, keys: &[String]) -> Result<(Verified, String), Doubt> {
    let note: SignedNote = note.parse()?;
    let mut refused = NoteError::Form;
    for line in keys {
        let key: VerifierKey = line.parse().map_err(|_| Doubt::Malformed("a key of the journal is none"))?;
        match note.verify(&key) {
            Ok(verified) => return Ok((verified, key.to_string())),
            Err(e) => refused = e,
        }
    }
    Err(refused.into())
}
