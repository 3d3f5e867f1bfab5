//! Bounds on a policy document's text, checked before it is parsed.
//!
//! Cedar's parser and its trees recurse, so that depth of the text is depth of the stack. A short scan that knows
//! strings and comments keeps both far below what a thread has.

/// Longest document, bytes.
pub const MAX_DOCUMENT: usize = 256 * 1024;
/// Most policies in a whole set.
pub const MAX_POLICIES: usize = 1000;
/// Brackets inside brackets.
const MAX_NESTING: usize = 32;
/// Operators between two semicolons: chains of them become trees as deep as they are long.
const MAX_OPERATORS: usize = 512;

/// `Err`: the line and what is wrong there.
pub(crate) fn check(text: &str) -> Result<(), (usize, String)> {
    if text.len() > MAX_DOCUMENT {
        return Err((1, format!("a policy document has at most {MAX_DOCUMENT} bytes; split it")));
    }
    let mut scan = Scan { line: 1, nesting: 0, operators: 0 };
    let mut rest = text.bytes().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => scan.skip_string(&mut rest),
            b'/' if rest.peek() == Some(&b'/') => scan.skip_comment(&mut rest),
            _ => scan.byte(byte)?,
        }
    }
    Ok(())
}

struct Scan {
    line: usize,
    nesting: usize,
    operators: usize,
}

impl Scan {
    fn byte(&mut self, byte: u8) -> Result<(), (usize, String)> {
        match byte {
            b'\n' => self.line += 1,
            b';' => (self.nesting, self.operators) = (0, 0),
            b'(' | b'[' | b'{' => self.nesting += 1,
            b')' | b']' | b'}' => self.nesting = self.nesting.saturating_sub(1),
            // `if`, `has`, `like`, `is` and `in` nest or chain with brackets or `&&` only.
            b'&' | b'|' | b'+' | b'-' | b'*' | b'!' | b'.' | b'=' | b'<' | b'>' => self.operators += 1,
            b'i' | b'e' => self.operators += 0,
            _ => {}
        }
        if self.nesting > MAX_NESTING {
            return Err((self.line, format!("brackets nest at most {MAX_NESTING} deep")));
        }
        if self.operators > MAX_OPERATORS {
            let what = "one policy has too many operators; write several policies, or use sets: [..].contains(..)";
            return Err((self.line, what.into()));
        }
        Ok(())
    }

    fn skip_string(&mut self, rest: &mut impl Iterator<Item = u8>) {
        while let Some(byte) = rest.next() {
            match byte {
                b'"' => return,
                b'\n' => self.line += 1,
                b'\\' => self.line += usize::from(rest.next() == Some(b'\n')),
                _ => {}
            }
        }
    }

    fn skip_comment(&mut self, rest: &mut impl Iterator<Item = u8>) {
        if rest.any(|b| b == b'\n') {
            self.line += 1;
        }
    }
}
