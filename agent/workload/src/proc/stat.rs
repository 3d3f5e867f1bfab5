//! `/proc/PID/stat` (proc_pid_stat(5)): parent, state, start time.

use super::{ReadError, number};

/// The file is a few hundred bytes; the command is at most 64.
pub const LIMIT: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub pid: i32,
    /// `R`, `S`, `Z`, …
    pub state: char,
    pub ppid: i32,
    /// Field 22: clock ticks since boot.
    pub start_time: u64,
}

impl Stat {
    /// The command is whatever the process called itself, blanks, brackets and newlines included, and stands between the
    /// first `(` and the *last* `)`: everything after it is numbers and one letter.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadError> {
        let bad = |what| ReadError::Malformed { file: "stat", what };
        let open = bytes.iter().position(|b| *b == b'(').ok_or(bad("a command"))?;
        let close = bytes.iter().rposition(|b| *b == b')').filter(|c| *c > open).ok_or(bad("a command"))?;
        let pid = bytes[..open].strip_suffix(b" ").and_then(number).filter(|p| *p > 0).ok_or(bad("a pid"))?;
        let tail = bytes[close + 1..].strip_prefix(b" ").ok_or(bad("a state"))?;
        let fields: Vec<&[u8]> = tail.trim_ascii_end().split(|b| *b == b' ').collect();
        let state = match fields.first() {
            Some([letter]) if letter.is_ascii_alphabetic() => char::from(*letter),
            _ => return Err(bad("a state")),
        };
        let ppid = fields.get(1).and_then(|f| number(f)).filter(|p| *p >= 0).ok_or(bad("a parent"))?;
        let start_time = fields.get(19).and_then(|f| number(f)).ok_or(bad("a start time"))?;
        Ok(Self { pid, state, ppid, start_time })
    }

    /// Dead: a zombie that waits for its parent, or one that is being taken apart.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(command: &str) -> String {
        format!("77 ({command}) S 12 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 2363392 300 184 1 1 0 0\n")
    }

    #[test]
    fn a_command_that_looks_like_fields_does_not_move_them() {
        for command in ["sh", "a) R 1 (b", ") R 1 (", "((((", "))))", "", "x\n78 (y) Z 1", "é) Z 0 0 0"] {
            let stat = Stat::parse(line(command).as_bytes()).unwrap();
            assert_eq!(stat, Stat { pid: 77, state: 'S', ppid: 12, start_time: 987_654 }, "{command}");
        }
    }

    #[test]
    fn what_the_kernel_would_not_write_is_refused() {
        let good = line("sh");
        Stat::parse(good.as_bytes()).unwrap();
        let bad = [
            String::new(),
            "77 (sh".into(),
            "77 sh) S 12".into(),
            ") 77 (sh S 1".into(),
            good.replace("77 (", "0 ("),
            good.replace("77 (", "-77 ("),
            good.replace("77 (", "+77 ("),
            good.replace(" S 12", " S -1"),
            good.replace(" S 12", " 7 12"),
            good.replace(" S 12", " S  12"),
            good.replace("987654", "-1"),
            good.replace("987654", "18446744073709551616"),
            good.split_inclusive("20 0 1 0 ").next().unwrap().into(),
        ];
        for text in bad {
            assert!(Stat::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
