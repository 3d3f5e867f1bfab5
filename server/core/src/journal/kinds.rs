//! Every kind of record there is, with its meaning in one line.
//!
//! Decides the vocabulary: `noun.verb`, the verb in the past tense. `docs/journal.md` is this list.

/// (kind, meaning), grouped by noun.
pub const KINDS: &[(&str, &str)] = &[
    ("server.started", "A server opened the store and began to answer."),
    ("server.stopped", "A server ended in good order."),
    (
        "server.reload_refused",
        "A changed configuration was not taken; `detail.why` says why. The old one stays in force.",
    ),
    ("node.attested", "A node proved what it is and got its first certificate."),
    ("node.renewed", "An agent's certificate was renewed."),
    ("node.updated", "An agent said which version it is; `detail` is the whole node."),
    ("node.evicted", "An operator removed a node; it may attest again."),
    ("node.banned", "An operator banned a node; it may not attest again."),
    ("join_token.created", "A one-time token for attestation was made."),
    ("entry.created", "A registration entry was added; `detail` is the whole entry."),
    ("entry.updated", "A registration entry changed; `detail` is the whole new entry."),
    ("entry.deleted", "A registration entry was removed."),
    ("svid.minted", "An X.509-SVID was signed; `credential.id` is its serial."),
    ("jwt_svid.minted", "A JWT-SVID was signed; `credential.id` is its `jti`."),
    ("task.started", "A task became active with its grants."),
    ("task.refused", "A task was not started; `outcome` says why."),
    ("task.ended", "A task ended; `detail.end_reason` says why. Its tokens are dead from this position on."),
    ("decision.made", "Policy answered one request."),
    ("token.issued", "A task token was signed; `credential.id` is its `jti`."),
    (
        "token.revoked",
        "A task token was revoked before its end; `credential.id` is its `jti`. It is dead from this position on.",
    ),
    (
        "client.authenticated",
        "A task's JWT-SVID stood in for a certificate at the token endpoint; its `jti`, `credential.id`, is spent.",
    ),
    ("lease.intended", "A credential is about to be made in a target, under the name in `detail.name`."),
    ("lease.handed", "A credential left the house."),
    ("lease.void", "The target refused: the credential never existed."),
    ("lease.revoking", "A credential's end was ordered; it is retried until the target confirms."),
    ("lease.revoked", "The target confirmed that the credential is gone."),
    ("lease.lingering", "The task is over; the credential cannot be revoked and dies by itself at `expires_at`."),
    ("lease.expired", "A lingering credential reached its end."),
    ("lease.orphan_found", "A scan found a credential in a target that no lease accounts for."),
    ("exchange.refused", "A token exchange was refused; `outcome` says why."),
    ("authority.prepared", "A signing key was made and published; it does not sign yet."),
    ("authority.activated", "A signing key began to sign."),
    ("authority.retired", "A signing key signs and verifies nothing any more."),
    ("authority.resealed", "The signing keys were sealed with another key-encryption key; they are the same keys."),
    ("authority.tainted", "A signing key is no longer trusted; what it signed is made anew."),
    ("target.applied", "A target was declared or changed; `detail` is the whole document."),
    ("target.deleted", "A target was removed."),
    ("policy.applied", "A policy was added or changed; `detail` is the whole document."),
    ("policy.deleted", "A policy was removed."),
    ("hold.created", "An operator stopped a workload, user, target, node or everything; `detail` is the whole hold."),
    ("hold.released", "An operator lifted a hold; `detail` is the hold as it stood."),
    ("journal.redacted", "An operator erased people's names or words beside records; `detail.positions` says where."),
    (
        "journal.pruned",
        "Records before `detail.before` are no longer kept: older than `[journal] keep`. Their hashes stay.",
    ),
    ("bundle.changed", "What this trust domain publishes changed."),
    ("access.denied", "A known caller asked for what it has no right to."),
];

/// Whether a record of this kind is in the vocabulary.
pub fn is_kind(kind: &str) -> bool {
    KINDS.iter().any(|(known, _)| *known == kind)
}

/// What a record of this kind says, in one line; the kind itself when a newer program wrote it.
pub fn meaning(kind: &str) -> &str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or(kind, |(_, meaning)| meaning)
}

/// The page `docs/journal.md`.
pub fn kinds_page() -> String {
    let mut page = String::from(
        "# Kinds of journal records\n\n\
         Written from `server/core/src/journal/kinds.rs`; a test keeps both equal (`ERRAND_BLESS=1` writes this page anew).\n\n\
         | kind | meaning |\n|---|---|\n",
    );
    for (kind, meaning) in KINDS {
        page.push_str(&format!("| `{kind}` | {meaning} |\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_noun_and_verb_and_each_is_said_once() {
        for (i, (kind, _)) in KINDS.iter().enumerate() {
            let (noun, verb) = kind.split_once('.').unwrap();
            let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(plain(noun) && plain(verb), "{kind}");
            assert!(KINDS[..i].iter().all(|(other, _)| other != kind), "{kind} twice");
        }
    }

    #[test]
    fn the_page_in_docs_lists_every_kind() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/journal.md");
        if std::env::var_os("ERRAND_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, kinds_page()).unwrap();
        }
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            page == kinds_page(),
            "docs/journal.md is not what journal::KINDS says; run this test with ERRAND_BLESS=1"
        );
    }
}
