//! The header of an RFC 5424 message, and what a message is cut to. There is no structured data: a record says it all.

use proto_types::Record;
use server_core::journal::syslog_severity;

/// Longest host name and message id in a header, characters.
const HOST: usize = 255;
const MESSAGE_ID: usize = 32;

pub struct Header {
    facility: u8,
    host: String,
    process: u32,
}

impl Header {
    pub fn of_this_machine(facility: u8) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self { facility, host: printable(host.trim(), HOST), process: std::process::id() }
    }

    /// Everything before the message itself.
    pub fn of(&self, record: &Record) -> String {
        format!(
            "<{}>1 {} {} errand {} {} - ",
            u32::from(self.facility) * 8 + u32::from(syslog_severity(&record.kind)),
            record.time,
            self.host,
            self.process,
            printable(&record.kind, MESSAGE_ID)
        )
    }
}

/// Printable ASCII without blanks, or the sign for nothing.
fn printable(text: &str, most: usize) -> String {
    let kept: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if kept.is_empty() { "-".into() } else { kept }
}

/// The last resort for a line that no format could make short enough: what fits of it.
pub fn cut(line: &str, room: usize) -> &str {
    &line[..line.floor_char_boundary(room)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_types::Timestamp;

    fn header(host: &str, kind: &'static str) -> String {
        let record = Record::new(Timestamp::from_millis(1_795_000_000_123), kind);
        Header { facility: 10, host: printable(host, HOST), process: 7 }.of(&record)
    }

    #[test]
    fn a_header_is_what_the_rfc_says_for_facility_and_severity() {
        assert_eq!(header("node1", "lease.handed"), "<86>1 2026-11-18T11:06:40.123Z node1 errand 7 lease.handed - ");
        assert!(header("node1", "authority.tainted").starts_with("<83>1 "));
    }

    #[test]
    fn nothing_in_a_header_breaks_it() {
        assert!(header("no de\n1", "lease.handed").contains(" node1 errand 7 "));
        assert!(header("", "a kind\r\nof record").contains(" - errand 7 akindofrecord - "));
    }

    #[test]
    fn a_line_is_cut_at_a_character() {
        assert_eq!((cut("ääää", 5), cut("abc", 5)), ("ää", "abc"));
    }
}
