//! Targets: applying, checking and deleting them. A target with live leases is retired first and goes when the last
//! lease has been revoked.

use crate::{Service, ServiceError};
use proto_types::{Lease, LeaseState, Record, TargetDoc};
use serde_json::json;
use server_core::ports::{Commit, Guard, Missing, Write};
use std::{sync::Arc, time::Duration};

/// The longest `target check` may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

/// TOML with `[[target]]` tables, and where it came from (`config` or `applied`).
pub struct TargetText<'a> {
    pub text: &'a str,
    pub origin: &'static str,
}

pub struct AppliedTarget {
    pub name: String,
    /// `created`, `updated` or `unchanged`.
    pub change: &'static str,
}

impl Service {
    /// Makes the declared targets so. All problems of all targets at once; nothing is applied when there is one.
    pub async fn targets_apply(
        &self,
        text: TargetText<'_>,
        operator: Option<String>,
    ) -> Result<Vec<AppliedTarget>, ServiceError> {
        let docs = (self.inner.ports.parse_targets)(text.text, text.origin).map_err(ServiceError::Target)?;
        self.apply_docs(docs, operator).await
    }

    /// Makes so what the configuration file declares, at start. A target that it declared before and does not any more
    /// is left as it is while leases are open in it.
    pub async fn targets_declare(&self, docs: Vec<TargetDoc>) -> Result<(), ServiceError> {
        let gone: Vec<String> = self.read(|s| {
            let ours = s.targets.values().filter(|t| t.doc.origin == "config").map(|t| &t.doc.name);
            ours.filter(|n| !docs.iter().any(|d| &d.name == *n)).cloned().collect()
        });
        for name in gone {
            match self.drop_target(&name, None).await {
                Ok(()) => {}
                // Its credentials are still to be ended in it; the next start, or reload, tries again.
                Err(error) => {
                    tracing::warn!(target = name, %error, "an undeclared target stays until its leases are over")
                }
            }
        }
        self.apply_docs(docs, None).await.map(drop)
    }

    async fn apply_docs(
        &self,
        docs: Vec<TargetDoc>,
        operator: Option<String>,
    ) -> Result<Vec<AppliedTarget>, ServiceError> {
        let mut unit: Option<Commit> = None;
        let mut applied = Vec::new();
        for mut doc in docs {
            let before = self.read(|s| s.targets.get(&doc.name).map(|t| t.doc.clone()));
            if let Some(fixed) = before.as_ref().filter(|b| b.origin == "config" && doc.origin != "config") {
                return Err(ServiceError::Conflict(format!(
                    "target `{}` is declared in the server's configuration file; change it there and restart",
                    fixed.name
                )));
            }
            if before.as_ref().is_some_and(|b| same(b, &doc)) {
                applied.push(AppliedTarget { name: doc.name, change: "unchanged" });
                continue;
            }
            (self.inner.ports.build_target)(&doc).map_err(ServiceError::Target)?;
            // Open leases are ended where they were made: a target that moves away waits for them.
            doc.revision = match &before {
                Some(b) if elsewhere(b, &doc) => self.quiesce(b, operator.as_ref()).await? + 1,
                Some(b) => b.revision + 1,
                None => 1,
            };
            let change = if before.is_some() { "updated" } else { "created" };
            applied.push(AppliedTarget { name: doc.name.clone(), change });
            let record = Record::new(self.now(), "target.applied")
                .target(&doc.name)
                .operator(operator.clone())
                .detail(json!({ "target": doc }));
            let next = match unit {
                None => Commit::of(record),
                Some(unit) => unit.also(record),
            };
            unit = Some(next.put(Write::Target(doc)));
        }
        if let Some(unit) = unit {
            self.commit_and_follow(unit).await?;
        }
        Ok(applied)
    }

    /// Connects to the target, tests the rights needed, says what is missing.
    pub async fn target_check(&self, name: &str) -> Result<Vec<Missing>, ServiceError> {
        let target = self.target(name).ok_or_else(|| ServiceError::not_found("target", name))?;
        tokio::select! {
            findings = target.check() => Ok(findings),
            () = self.inner.ports.clock.sleep(CHECK_TIMEOUT) => Err(ServiceError::TargetUnavailable {
                target: name.into(),
                why: "it did not answer the check within 30s".into(),
            }),
        }
    }

    /// Deletes the target; refused while it has leases, since nobody could revoke them then.
    pub async fn target_delete(&self, name: &str, operator: Option<String>) -> Result<(), ServiceError> {
        let doc = self.read(|s| s.targets.get(name).map(|t| t.doc.clone()));
        let doc = doc.ok_or_else(|| ServiceError::not_found("target", name))?;
        if doc.origin == "config" {
            return Err(ServiceError::Conflict(format!(
                "target `{name}` is declared in the server's configuration file; remove it there and restart"
            )));
        }
        self.drop_target(name, operator).await
    }

    async fn drop_target(&self, name: &str, operator: Option<String>) -> Result<(), ServiceError> {
        let doc = self.read(|s| s.targets.get(name).map(|t| t.doc.clone()));
        let doc = doc.ok_or_else(|| ServiceError::not_found("target", name))?;
        let revision = self.quiesce(&doc, operator.as_ref()).await?;
        let record = Record::new(self.now(), "target.deleted").target(name).operator(operator);
        let unit = Commit::of(record).when(Guard::TargetAt(name.into(), revision)).put(Write::DropTarget(name.into()));
        self.commit_and_follow(unit).await?;
        Ok(())
    }

    /// Makes sure that no lease is open in the target and none can be added: retires it first (what is being issued
    /// loses its guard), then looks. With leases open it is put back as it was and the change is refused.
    async fn quiesce(&self, doc: &TargetDoc, operator: Option<&String>) -> Result<u64, ServiceError> {
        let retired = TargetDoc { retired: true, revision: doc.revision + 1, ..doc.clone() };
        self.write_target(retired, doc.revision, operator).await?;
        // What lingers ends by itself: nothing is left to be done in the target.
        let is_open = |l: &Arc<Lease>| l.role.target() == doc.name && l.state != LeaseState::Lingering;
        let open = self.read(|s| s.leases.values().filter(|l| is_open(l)).count());
        if open == 0 {
            return Ok(doc.revision + 1);
        }
        let back = TargetDoc { retired: false, revision: doc.revision + 2, ..doc.clone() };
        self.write_target(back, doc.revision + 1, operator).await?;
        Err(ServiceError::Conflict(format!(
            "target `{0}` has {open} leases that are not over, and they can be ended only where they were made; end \
             their tasks first (`errand lease list --target {0}`)",
            doc.name
        )))
    }

    async fn write_target(&self, doc: TargetDoc, was: u64, operator: Option<&String>) -> Result<(), ServiceError> {
        let record = Record::new(self.now(), "target.applied")
            .target(&doc.name)
            .operator(operator.cloned())
            .detail(json!({ "target": doc }));
        let unit = Commit::of(record).when(Guard::TargetAt(doc.name.clone(), was)).put(Write::Target(doc));
        self.commit_and_follow(unit).await?;
        Ok(())
    }
}

/// Whether anything but the roles changes: then what was issued may lie somewhere else than the new document points.
fn elsewhere(a: &TargetDoc, b: &TargetDoc) -> bool {
    let place = |doc: &TargetDoc| {
        let mut body = doc.body.clone();
        if let Some(fields) = body.as_object_mut() {
            fields.remove("role");
        }
        body
    };
    a.kind != b.kind || place(a) != place(b)
}

fn same(a: &TargetDoc, b: &TargetDoc) -> bool {
    a.kind == b.kind && a.body == b.body && a.origin == b.origin && a.retired == b.retired
}
