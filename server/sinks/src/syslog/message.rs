//! One record as a message of RFC 5424.
//!
//! The record's line is the message; position and leaf are in it, so there is no structured data. The severity is
//! informational for what went well and warning for what did not.

use proto_types::Record;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Facility {
    Daemon = 3,
    Auth = 4,
    AuthPriv = 10,
    Local0 = 16,
    Local1,
    Local2,
    Local3,
    Local4,
    Local5,
    Local6,
    Local7,
}

/// The first is the default.
pub(super) const FACILITIES: [(&str, Facility); 11] = [
    ("authpriv", Facility::AuthPriv),
    ("auth", Facility::Auth),
    ("daemon", Facility::Daemon),
    ("local0", Facility::Local0),
    ("local1", Facility::Local1),
    ("local2", Facility::Local2),
    ("local3", Facility::Local3),
    ("local4", Facility::Local4),
    ("local5", Facility::Local5),
    ("local6", Facility::Local6),
    ("local7", Facility::Local7),
];

const WARNING: u32 = 4;
const INFORMATIONAL: u32 = 6;

/// Who speaks: the same in every message of a process.
#[derive(Clone, Debug)]
pub(super) struct Speaker {
    facility: Facility,
    host: String,
    process: u32,
}

impl Speaker {
    pub(super) fn new(facility: Facility) -> Self {
        let name = nix::sys::utsname::uname().ok().map(|u| u.nodename().to_string_lossy().into_owned());
        Self { facility, host: word(&name.unwrap_or_default(), 255), process: std::process::id() }
    }

    /// The message that carries this line, which is the record's.
    pub(super) fn message(&self, record: &Record, line: &str) -> String {
        let severity = if record.outcome == "ok" { INFORMATIONAL } else { WARNING };
        let priority = self.facility as u32 * 8 + severity;
        let (host, process, kind) = (&self.host, self.process, word(&record.kind, 32));
        format!("<{priority}>1 {} {host} errand {process} {kind} - {line}", record.time)
    }
}

/// A field of a header: visible ASCII of a bounded length, or `-` for none.
fn word(text: &str, most: usize) -> String {
    let visible: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if visible.is_empty() { "-".into() } else { visible }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_types::Timestamp;

    #[test]
    fn a_message_has_the_fields_of_the_standard_in_order() {
        let speaker = Speaker { facility: Facility::AuthPriv, host: "node-1".into(), process: 42 };
        let time = Timestamp::from_millis(1_767_225_600_125);
        let mut record = Record::new(time, "decision.made");
        let head = "1 2026-01-01T00:00:00.125Z node-1 errand 42 decision.made -";
        assert_eq!(speaker.message(&record, "{}"), format!("<86>{head} {{}}"));
        record.outcome = "denied".into();
        let local = Speaker { facility: Facility::Local7, ..speaker };
        assert_eq!(local.message(&record, "{}"), format!("<188>{head} {{}}"));
    }

    #[test]
    fn a_field_of_the_header_is_one_word_whatever_it_is_made_of() {
        assert_eq!(word("decision.made", 32), "decision.made");
        assert_eq!(word("a b\r\nc\u{f6}", 32), "abc");
        assert_eq!(word("", 32), "-");
        assert_eq!(word("\u{f6} \n", 32), "-");
        assert_eq!(word(&"x".repeat(300), 255).len(), 255);
        assert_ne!(Speaker::new(Facility::Auth).host, "");
    }
}
