//! Bounds on a policy document's text, checked before it is parsed.
//!
//! Cedar's parser and its trees recurse, so that depth of the text is depth of the stack. A short scan that knows
//! strings and comments keeps both far below what a thread has.

/// Longest document, bytes.
pub const MAX_DOCUMENT: usize = 256 * 1024;
/// Most policies in a whole set.
pub const MAX_POLICIES: usize = 1000;
/// Brackets inside brackets; also how many `if`s one policy may chain, since each nests in the one before.
const MAX_NESTING: usize = 32;
/// Operators, and bytes outside strings and comments, between two semicolons: chains become trees as deep as they
/// are long. A set of names stays far below both.
const MAX_OPERATORS: usize = 256;
const MAX_STATEMENT: usize = 16 * 1024;

/// `Err`: the line and what is wrong there.
pub(crate) fn check(text: &str) -> Result<(), (usize, String)> {
    if text.len() > MAX_DOCUMENT {
        return Err((1, format!("a policy document has at most {MAX_DOCUMENT} bytes; split it")));
    }
    let mut scan = Scan { line: 1, nesting: 0, ifs: 0, operators: 0, bytes: 0 };
    let mut rest = text.bytes().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => scan.skip_string(&mut rest),
            b'/' if rest.peek() == Some(&b'/') => scan.skip_comment(&mut rest),
            // Some names end in `if` as well; counting them costs nothing.
            b'i' if rest.peek() == Some(&b'f') => scan.word()?,
            _ => scan.byte(byte)?,
        }
    }
    Ok(())
}

struct Scan {
    line: usize,
    nesting: usize,
    ifs: usize,
    operators: usize,
    bytes: usize,
}

impl Scan {
    fn byte(&mut self, byte: u8) -> Result<(), (usize, String)> {
        self.bytes += 1;
        match byte {
            b'\n' => self.line += 1,
            b';' => (self.ifs, self.operators, self.bytes) = (0, 0, 0),
            // Each `when { … }` is one more `&&`.
            b'{' => (self.nesting, self.operators) = (self.nesting + 1, self.operators + 1),
            b'(' | b'[' => self.nesting += 1,
            b')' | b']' | b'}' => self.nesting = self.nesting.saturating_sub(1),
            b'&' | b'|' | b'+' | b'-' | b'*' | b'!' | b'.' | b'=' | b'<' | b'>' => self.operators += 1,
            _ => {}
        }
        if self.nesting > MAX_NESTING || self.ifs > MAX_NESTING {
            return Err((self.line, format!("brackets and ifs nest at most {MAX_NESTING} deep")));
        }
        if self.operators > MAX_OPERATORS || self.bytes > MAX_STATEMENT {
            let what = "this policy is too long; write several policies, or use sets: [..].contains(..)";
            return Err((self.line, what.into()));
        }
        Ok(())
    }

    fn word(&mut self) -> Result<(), (usize, String)> {
        self.ifs += 1;
        self.byte(b'i')
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
