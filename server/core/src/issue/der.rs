//! Whether bytes are exactly one value in DER (X.690 section 10): definite, shortest lengths, low tags, primitive
//! strings, shortest integers, nothing after it. Looks at form only, before any parser that costs.

/// Deepest nesting of a request that is not hostile; real ones need eight levels.
const MAX_DEPTH: u8 = 16;

/// Where the form broke. Offsets are bytes from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DerFault {
    #[error("it ends in the middle of a value")]
    Truncated,
    #[error("{0} bytes follow it")]
    Trailing(usize),
    #[error("byte {0} begins a value that DER would write differently")]
    NotDer(usize),
    #[error("it is nested more than 16 levels deep")]
    TooDeep,
}

/// Checks that `der` is one value in DER and nothing else.
pub(super) fn exact(der: &[u8]) -> Result<(), DerFault> {
    let end = value(der, 0, MAX_DEPTH)?;
    match der.len() - end {
        0 => Ok(()),
        n => Err(DerFault::Trailing(n)),
    }
}

/// The values inside the constructed value `der`, whole, with their tags; empty when `der` is not what [`exact`] takes.
pub(super) fn children(der: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    let Ok((mut next, _)) = length(der, 0) else { return out };
    while let Ok((start, len)) = length(der, next) {
        let Some(child) = der.get(next..start + len) else { break };
        out.push(child);
        next = start + len;
    }
    out
}

/// Whether the constructed value `der` is a universal SEQUENCE of values with exactly these tags. The certificate
/// parser looks at tag numbers and not at their class, so a `[16]` would pass for a SEQUENCE.
pub(super) fn is_sequence(der: &[u8], tags: &[u8]) -> bool {
    der.first() == Some(&0x30) && children(der).iter().map(|c| c[0]).eq(tags.iter().copied())
}

/// Checks the value at `at` and returns where it ends.
fn value(der: &[u8], at: usize, depth: u8) -> Result<usize, DerFault> {
    let tag = *der.get(at).ok_or(DerFault::Truncated)?;
    let (start, len) = length(der, at)?;
    let end = start.checked_add(len).filter(|e| *e <= der.len()).ok_or(DerFault::Truncated)?;
    let content = &der[start..end];
    if !form_is_der(tag, content) {
        return Err(DerFault::NotDer(at));
    }
    if tag & 0x20 != 0 {
        let depth = depth.checked_sub(1).ok_or(DerFault::TooDeep)?;
        let mut next = start;
        while next < end {
            // Children may not reach past their parent.
            next = value(&der[..end], next, depth)?;
        }
    }
    Ok(end)
}

/// Start of the content and its length.
fn length(der: &[u8], at: usize) -> Result<(usize, usize), DerFault> {
    let first = *der.get(at + 1).ok_or(DerFault::Truncated)?;
    if first < 0x80 {
        return Ok((at + 2, usize::from(first)));
    }
    let count = usize::from(first & 0x7f);
    if count == 0 || count > 4 {
        return Err(DerFault::NotDer(at));
    }
    let bytes = der.get(at + 2..at + 2 + count).ok_or(DerFault::Truncated)?;
    let len = bytes.iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
    let shortest = len >= 0x80 && bytes[0] != 0;
    if shortest { Ok((at + 2 + count, len)) } else { Err(DerFault::NotDer(at)) }
}

fn form_is_der(tag: u8, content: &[u8]) -> bool {
    // Tag numbers above 30 occur in nothing that is read here.
    if tag & 0x1f == 0x1f {
        return false;
    }
    let (universal, constructed) = (tag & 0xc0 == 0, tag & 0x20 != 0);
    if !universal {
        return true;
    }
    match tag & 0x1f {
        0x10 | 0x11 => constructed,
        _ if constructed => false,
        0x01 => matches!(content, [0x00 | 0xff]),
        0x02 => match content {
            [] => false,
            [0x00, next, ..] => next & 0x80 != 0,
            [0xff, next, ..] => next & 0x80 == 0,
            _ => true,
        },
        0x03 => matches!(content, [0] | [0..=7, _, ..]),
        0x05 => content.is_empty(),
        0x06 => content.first().is_some_and(|b| *b != 0x80) && content.last().is_some_and(|b| b & 0x80 == 0),
        _ => true,
    }
}
