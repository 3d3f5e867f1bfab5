//! Which event each kind of record is, for those who sort events by class: one line for each kind.
//!
//! Numbers are those of the Open Cybersecurity Schema Framework: classes and their activities. A kind without a line
//! here fails a test; a kind that a newer program wrote is an event without a class.

/// A class of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing more is known of it.
    Base = 0,
    DetectionFinding = 2004,
    Authentication = 3002,
    AuthorizeSession = 3003,
    EntityManagement = 3004,
    UserAccess = 3005,
    Lifecycle = 6002,
    ApiActivity = 6003,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Informational = 1,
    Low = 2,
    Medium = 3,
    High = 4,
}

/// What a record of the kind says of success, where its `outcome` does not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `ok` is a success, everything else a failure.
    Outcome,
    Failure,
    /// Begun, and not yet known.
    Pending,
}

#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub class: Class,
    pub activity: u32,
    pub severity: Severity,
    pub status: Status,
}

/// Activity numbers, by class.
mod is {
    pub const OTHER: u32 = 99;
    // Authentication.
    pub const LOGON: u32 = 1;
    pub const LOGOFF: u32 = 2;
    pub const TICKET: u32 = 3;
    pub const SERVICE_TICKET: u32 = 4;
    // Authorize session, user access.
    pub const ASSIGN: u32 = 1;
    pub const REVOKE: u32 = 2;
    // Entity management.
    pub const CREATE: u32 = 1;
    pub const UPDATE: u32 = 3;
    pub const DELETE: u32 = 4;
    pub const DISABLE: u32 = 9;
    pub const ACTIVATE: u32 = 10;
    pub const DEACTIVATE: u32 = 11;
    // Application lifecycle.
    pub const START: u32 = 3;
    pub const STOP: u32 = 4;
}

use Class::{
    ApiActivity as Api, Authentication as Auth, AuthorizeSession as Session, DetectionFinding as Finding,
    EntityManagement as Entity, Lifecycle, UserAccess as Access,
};
use Severity::{High, Informational as Info, Low, Medium};
use Status::{Failure, Outcome, Pending};

type Line = (&'static str, Class, u32, Severity, Status);

const EVENTS: &[Line] = &[
    ("server.started", Lifecycle, is::START, Info, Outcome),
    ("server.stopped", Lifecycle, is::STOP, Info, Outcome),
    ("server.reload_refused", Lifecycle, is::OTHER, Medium, Failure),
    ("node.attested", Auth, is::LOGON, Info, Outcome),
    ("node.renewed", Auth, is::TICKET, Info, Outcome),
    ("node.updated", Entity, is::UPDATE, Info, Outcome),
    ("node.evicted", Entity, is::DELETE, Low, Outcome),
    ("node.banned", Entity, is::DISABLE, Medium, Outcome),
    ("join_token.created", Entity, is::CREATE, Low, Outcome),
    ("entry.created", Entity, is::CREATE, Low, Outcome),
    ("entry.updated", Entity, is::UPDATE, Low, Outcome),
    ("entry.deleted", Entity, is::DELETE, Low, Outcome),
    ("svid.minted", Auth, is::TICKET, Info, Outcome),
    ("jwt_svid.minted", Auth, is::TICKET, Info, Outcome),
    ("task.started", Session, is::ASSIGN, Info, Outcome),
    ("task.refused", Session, is::ASSIGN, Medium, Failure),
    ("task.ended", Auth, is::LOGOFF, Info, Outcome),
    ("decision.made", Api, is::OTHER, Info, Outcome),
    ("token.issued", Auth, is::SERVICE_TICKET, Info, Outcome),
    ("token.revoked", Access, is::REVOKE, Info, Outcome),
    ("client.authenticated", Auth, is::LOGON, Info, Outcome),
    ("lease.intended", Access, is::ASSIGN, Info, Pending),
    ("lease.handed", Access, is::ASSIGN, Info, Outcome),
    ("lease.void", Access, is::ASSIGN, Low, Failure),
    ("lease.revoking", Access, is::REVOKE, Info, Pending),
    ("lease.revoked", Access, is::REVOKE, Info, Outcome),
    ("lease.lingering", Access, is::REVOKE, Low, Pending),
    ("lease.expired", Access, is::REVOKE, Info, Outcome),
    ("lease.orphan_found", Finding, is::CREATE, High, Outcome),
    ("exchange.refused", Access, is::ASSIGN, Medium, Failure),
    ("authority.prepared", Entity, is::CREATE, Low, Outcome),
    ("authority.activated", Entity, is::ACTIVATE, Low, Outcome),
    ("authority.retired", Entity, is::DEACTIVATE, Low, Outcome),
    ("authority.resealed", Entity, is::UPDATE, Low, Outcome),
    ("authority.tainted", Entity, is::DISABLE, High, Outcome),
    ("target.applied", Entity, is::UPDATE, Medium, Outcome),
    ("target.deleted", Entity, is::DELETE, Medium, Outcome),
    ("policy.applied", Entity, is::UPDATE, Medium, Outcome),
    ("policy.deleted", Entity, is::DELETE, Medium, Outcome),
    ("hold.created", Entity, is::CREATE, Medium, Outcome),
    ("hold.released", Entity, is::DELETE, Medium, Outcome),
    ("journal.redacted", Entity, is::DELETE, Medium, Outcome),
    ("journal.pruned", Entity, is::DELETE, Low, Outcome),
    ("bundle.changed", Entity, is::UPDATE, Low, Outcome),
    ("access.denied", Api, is::OTHER, Medium, Failure),
];

/// The event that a record of this kind is.
pub fn event(kind: &str) -> Event {
    let (_, class, activity, severity, status) = *EVENTS.iter().find(|(known, ..)| *known == kind).unwrap_or(&(
        "",
        Class::Base,
        0,
        Severity::Informational,
        Outcome,
    ));
    Event { class, activity, severity, status }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::KINDS;

    #[test]
    fn every_kind_is_one_event_and_every_event_is_of_a_kind() {
        for (kind, _) in KINDS {
            let lines = EVENTS.iter().filter(|(known, ..)| known == kind).count();
            assert_eq!(lines, 1, "`{kind}` needs its line in journal/formats/classes.rs");
        }
        for (kind, ..) in EVENTS {
            assert!(KINDS.iter().any(|(known, _)| known == kind), "`{kind}` is no kind");
        }
    }

    #[test]
    fn a_kind_of_a_newer_program_is_an_event_without_a_class() {
        assert_eq!(event("lease.teleported").class, Class::Base);
        assert_eq!(event("lease.handed").class, Class::UserAccess);
    }
}
