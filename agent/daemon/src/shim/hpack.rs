//! One walk over a header block (RFC 7541, section 6) that shortens the value of `:authority`.
//!
//! Decodes nothing: representations are copied as they are, but for literals whose name is `:authority`, whose value
//! becomes the one byte `x`. No Huffman code and no table is needed, because a shorter value is safe:
//!
//! - Both ends insert the same literals in the same order, and an index counts back from the newest insertion. So an
//!   index means the same insertion at both ends as long as the receiver still has it.
//! - An entry made of the shorter value is no larger than the sender's, so the receiver never evicts earlier than the
//!   sender does. It may hold entries the sender has dropped; those lie behind every one the sender still names.
//! - A literal too large for the sender's table empties it; the receiver may keep the shortened one. All that the sender
//!   can name afterwards is newer than it.
//! - Table sizes change at the same points of the stream for both, since size updates pass as they are.
//!
//! Left alone is a literal whose name is an index into the dynamic table (an earlier `:authority` literal): no known
//! client sends one, and the receiver then judges the value as it would without this module.

use super::ShimError;

/// `:authority` in the static table (RFC 7541, appendix A).
const STATIC_AUTHORITY: usize = 1;
const NAME: &[u8] = b":authority";
/// The same, Huffman-coded; the code has one spelling only.
const NAME_HUFFMAN: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];
/// A string literal of length 1, not Huffman-coded.
const REPLACEMENT: [u8; 2] = [1, b'x'];

/// The block with every `:authority` literal shortened, never longer than `block`; `None` when there is none to shorten.
pub fn rewrite(block: &[u8]) -> Result<Option<Vec<u8>>, ShimError> {
    let mut walk = Walk { block, at: 0 };
    let mut out: Option<Vec<u8>> = None;
    // Everything before `copied` is in `out` already.
    let mut copied = 0;
    while walk.at < block.len() {
        let Some(value_at) = walk.representation()? else { continue };
        let out = out.get_or_insert_with(|| Vec::with_capacity(block.len()));
        out.extend_from_slice(&block[copied..value_at]);
        out.extend_from_slice(&REPLACEMENT);
        copied = walk.at;
    }
    Ok(out.map(|mut out| {
        out.extend_from_slice(&block[copied..]);
        out
    }))
}

struct Walk<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    /// Steps over one representation. `Some`: where the value of an `:authority` literal begins that is to be replaced.
    fn representation(&mut self) -> Result<Option<usize>, ShimError> {
        let first = self.peek()?;
        let index_bits = match first {
            // Indexed field, or dynamic table size update: no literal.
            0x80.. => return self.integer(7).map(|_| None),
            0x20..0x40 => return self.integer(5).map(|_| None),
            0x40..0x80 => 6,
            // Without indexing, or never indexed.
            0x00..0x20 => 4,
        };
        let is_authority = match self.integer(index_bits)? {
            0 => {
                let (name, huffman) = self.string()?;
                name == if huffman { NAME_HUFFMAN } else { NAME }
            }
            index => index == STATIC_AUTHORITY,
        };
        let value_at = self.at;
        let (value, _) = self.string()?;
        // An empty one is already shortest; `x` would be longer.
        Ok((is_authority && !value.is_empty()).then_some(value_at))
    }

    fn peek(&self) -> Result<u8, ShimError> {
        self.block.get(self.at).copied().ok_or(ShimError::Truncated)
    }

    /// An integer with a prefix of `bits` bits (RFC 7541, section 5.1), at most four more bytes.
    fn integer(&mut self, bits: u32) -> Result<usize, ShimError> {
        let most = (1usize << bits) - 1;
        let prefix = usize::from(self.peek()?) & most;
        self.at += 1;
        if prefix < most {
            return Ok(prefix);
        }
        let mut value = most;
        for shift in [0, 7, 14, 21] {
            let byte = self.peek()?;
            self.at += 1;
            // Below 2^28 + 2^7, whatever the bytes are.
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ShimError::Integer)
    }

    /// A string (RFC 7541, section 5.2): its bytes as sent, and whether they are Huffman-coded.
    fn string(&mut self) -> Result<(&'a [u8], bool), ShimError> {
        let huffman = self.peek()? & 0x80 != 0;
        let length = self.integer(7)?;
        let end = self.at.checked_add(length).ok_or(ShimError::Truncated)?;
        let bytes = self.block.get(self.at..end).ok_or(ShimError::Truncated)?;
        self.at = end;
        Ok((bytes, huffman))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `:authority: tmp%2Fa` as literals of each kind, the name by index and in both spellings.
    fn literals() -> Vec<Vec<u8>> {
        let value = [&[7u8][..], b"tmp%2Fa"].concat();
        let plain = [&[10u8][..], NAME].concat();
        let coded = [&[0x88u8][..], NAME_HUFFMAN].concat();
        let mut all = Vec::new();
        for kind in [0x00u8, 0x10, 0x40] {
            all.push([&[kind | 1][..], &value].concat());
            all.push([&[kind][..], &plain, &value].concat());
            all.push([&[kind][..], &coded, &value].concat());
        }
        all
    }

    #[test]
    fn an_authority_literal_of_every_kind_becomes_x() {
        for literal in literals() {
            let expected = [&literal[..literal.len() - 8], &REPLACEMENT].concat();
            assert_eq!(rewrite(&literal).unwrap(), Some(expected.clone()), "{literal:02x?}");
            // Between others, which stay.
            let others = [0x82u8, 0x86, 0x3f, 0xe1, 0x1f];
            let path = [&[0x44u8, 2][..], b"/a"].concat();
            let block = [&others[..], &literal, &path].concat();
            let whole = [&others[..], &expected, &path].concat();
            assert_eq!(rewrite(&block).unwrap(), Some(whole));
        }
    }

    #[test]
    fn whatever_is_not_an_authority_literal_stays() {
        let path = [&[0x44u8, 7][..], b"tmp%2Fa"].concat();
        let other_name = [&[0x40u8, 10][..], b":authoritx", &[1, b'a']].concat();
        let empty = vec![0x41u8, 0];
        let indexed = vec![0x81u8, 0xbe];
        for block in [path, other_name, empty, indexed, vec![]] {
            assert_eq!(rewrite(&block), Ok(None), "{block:02x?}");
        }
    }

    #[test]
    fn a_block_that_ends_within_a_representation_is_refused() {
        for literal in literals() {
            for end in 1..literal.len() {
                assert_eq!(rewrite(&literal[..end]), Err(ShimError::Truncated), "{:02x?}", &literal[..end]);
            }
        }
    }

    #[test]
    fn an_integer_has_at_most_four_more_bytes() {
        assert_eq!(rewrite(&[0xff, 0xff, 0xff, 0xff, 0x7f]), Ok(None));
        assert_eq!(rewrite(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x00]), Err(ShimError::Integer));
        assert_eq!(rewrite(&[0x41, 0x7f, 0xff, 0xff, 0xff, 0x7f, b'a']), Err(ShimError::Truncated));
    }
}
