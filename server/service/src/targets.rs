//! Targets: applying, checking and deleting them. A target with live leases is retired first and goes when the last
//! lease has been revoked.

use crate::{Service, ServiceError};
use proto_types::{Record, TargetDoc};
use serde_json::json;
use server_core::ports::{Commit, Missing, Write};
use std::time::Duration;

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
            let left = |n: &&String| !docs.iter().any(|d| &d.name == *n);
            let open = |n: &&String| s.leases.values().any(|l| l.role.target() == n.as_str());
            let ours = s.targets.iter().filter(|(_, t)| t.doc.origin == "config").map(|(n, _)| n);
            ours.filter(left).filter(|n| !open(n)).cloned().collect()
        });
        for name in gone {
            let record = Record::new(self.now(), "target.deleted").target(&name);
            self.commit_and_follow(Commit::of(record).put(Write::DropTarget(name))).await?;
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
            doc.revision = before.as_ref().map_or(1, |b| b.revision + 1);
            (self.inner.ports.build_target)(&doc).map_err(ServiceError::Target)?;
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
        let (doc, open) = self.read(|s| {
            let open = s.leases.values().filter(|l| l.role.target() == name).count();
            (s.targets.get(name).map(|t| t.doc.clone()), open)
        });
        let doc = doc.ok_or_else(|| ServiceError::not_found("target", name))?;
        if doc.origin == "config" {
            return Err(ServiceError::Conflict(format!(
                "target `{name}` is declared in the server's configuration file; remove it there and restart"
            )));
        }
        if open > 0 {
            return Err(ServiceError::Conflict(format!(
                "target `{name}` has {open} leases that are not over; end their tasks first (`errand lease list --target {name}`)"
            )));
        }
        let record = Record::new(self.now(), "target.deleted").target(name).operator(operator);
        self.commit_and_follow(Commit::of(record).put(Write::DropTarget(name.into()))).await?;
        Ok(())
    }
}

fn same(a: &TargetDoc, b: &TargetDoc) -> bool {
    a.kind == b.kind && a.body == b.body && a.origin == b.origin && a.retired == b.retired
}
