//! Registration entries: create, update, delete. Every change is one commit with a guard on the entry's revision, and
//! answers when this server's own index has passed it.

use crate::{Service, ServiceError};
use proto_types::{EndReason, Entry, EntryId, Record, id::excerpt};
use serde_json::json;
use server_core::ports::{Commit, Guard, Write, entry_fingerprint};
use std::sync::Arc;

/// What came of one `create`.
#[derive(Debug)]
pub enum Created {
    New(Arc<Entry>),
    /// An entry that says the same stands already; SPIRE's clients expect it back.
    Exists(Arc<Entry>),
}

impl Service {
    pub async fn entry_create(&self, mut entry: Entry, operator: Option<String>) -> Result<Created, ServiceError> {
        self.stands(&entry)?;
        if let Some(same) = self.read(|s| s.entries.similar(&entry).cloned()) {
            return Ok(Created::Exists(same));
        }
        if self.read(|s| s.entries.get(&entry.id).is_some()) {
            return Err(ServiceError::Exists { what: "entry", id: entry.id.to_string() });
        }
        entry.revision = 1;
        entry.created_at = self.now();
        let unit = Commit::of(entry_record(&entry, "entry.created", operator, self.now()))
            .when(Guard::EntryAt(entry.id.clone(), 0))
            .when(Guard::EntryUnique(entry.id.clone(), entry_fingerprint(&entry)))
            .put(Write::Entry(entry.clone()));
        match self.commit_and_follow(unit).await {
            Ok(_) => Ok(Created::New(Arc::new(entry))),
            // Somebody else was faster with the same entry: to this caller it exists.
            Err(ServiceError::Conflict(why)) => {
                self.follow_all().await;
                match self.read(|s| s.entries.similar(&entry).cloned()) {
                    Some(same) => Ok(Created::Exists(same)),
                    None => Err(ServiceError::Conflict(why)),
                }
            }
            Err(e) => Err(e),
        }
    }

    /// Replaces the entry with this id by a whole new value.
    pub async fn entry_update(&self, mut entry: Entry, operator: Option<String>) -> Result<Arc<Entry>, ServiceError> {
        let before = self
            .read(|s| s.entries.get(&entry.id).cloned())
            .ok_or_else(|| ServiceError::not_found("entry", &entry.id))?;
        self.stands(&entry)?;
        if let Some(same) = self.read(|s| s.entries.similar(&entry).filter(|e| e.id != entry.id).cloned()) {
            return Err(ServiceError::EntryExists(same.id.clone()));
        }
        entry.revision = before.revision + 1;
        entry.created_at = before.created_at;
        let unit = Commit::of(entry_record(&entry, "entry.updated", operator, self.now()))
            .when(Guard::EntryAt(entry.id.clone(), before.revision))
            .when(Guard::EntryUnique(entry.id.clone(), entry_fingerprint(&entry)))
            .put(Write::Entry(entry.clone()));
        self.commit_and_follow(unit).await?;
        Ok(Arc::new(entry))
    }

    /// Whether the entry can do what it says, given everything else there is.
    fn stands(&self, entry: &Entry) -> Result<(), ServiceError> {
        // A workload would wait for a bundle that nobody ever brings.
        if let Some(name) = entry.federates_with.first() {
            return Err(ServiceError::Invalid(format!(
                "no bundle of `{name}` is kept here: this version does not federate; leave `federates_with` out"
            )));
        }
        if self.read(|s| s.entries.loops(entry)) {
            return Err(ServiceError::Invalid(format!(
                "the parent `{}` stands below this entry itself: no agent could ever serve it",
                excerpt(&entry.parent_id.to_string())
            )));
        }
        Ok(())
    }

    /// Deletes entries whose time is over.
    pub(crate) async fn prune_entries(&self) {
        let now = self.now().as_secs();
        let expired: Vec<EntryId> = self.read(|s| {
            s.entries.iter().filter(|e| e.expires_at > 0 && e.expires_at <= now).map(|e| e.id.clone()).collect()
        });
        for id in expired {
            if let Err(error) = self.entry_delete(&id, None).await {
                tracing::warn!(entry = %id, %error, "an expired entry could not be deleted yet; it will be tried again");
            }
        }
    }

    /// Deletes the entry and ends the tasks that were started by its right.
    pub async fn entry_delete(&self, id: &EntryId, operator: Option<String>) -> Result<(), ServiceError> {
        let before = self.read(|s| s.entries.get(id).cloned()).ok_or_else(|| ServiceError::not_found("entry", id))?;
        let record = Record::new(self.now(), "entry.deleted")
            .workload(&before.spiffe_id)
            .operator(operator)
            .detail(json!({ "deleted": id }));
        let unit =
            Commit::of(record).when(Guard::EntryAt(id.clone(), before.revision)).put(Write::DropEntry(id.clone()));
        self.commit_and_follow(unit).await?;
        let tasks: Vec<_> = self.read(|s| s.tasks.values().filter(|t| &t.entry == id).map(|t| t.id).collect());
        for task in tasks {
            self.end_quietly(task, EndReason::EntryDeleted).await;
        }
        Ok(())
    }
}

fn entry_record(entry: &Entry, kind: &'static str, operator: Option<String>, now: proto_types::Timestamp) -> Record {
    Record::new(now, kind).workload(&entry.spiffe_id).operator(operator).detail(json!({ "entry": entry }))
}
