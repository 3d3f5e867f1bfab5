//! HTTP/2 frames (RFC 9113, section 4.1) on their way from a client: everything passes byte for byte, but header blocks
//! that hold an `:authority` to shorten.
//!
//! Sans-IO. Judges framing only where it must hold bytes back: what is held is bounded, the rest is the server's to judge.

use super::{ShimError, hpack};

/// The client preface (RFC 9113, section 3.4) is not a frame.
const PREFACE: usize = 24;
const HEADER: usize = 9;
/// What every server accepts (SETTINGS_MAX_FRAME_SIZE at its least).
const FRAME: usize = 16_384;
/// Largest header block held back, with padding and priority.
pub const MAX_BLOCK: usize = 64 * 1024;
/// Most frames one header block may come in; empty ones cost nothing else.
pub const MAX_FRAMES: usize = 64;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Where in the stream of bytes the next one lies.
enum State {
    /// This many bytes more pass unseen: the preface, or the payload of a frame without headers.
    Pass(usize),
    /// Between frames, or within a frame header.
    Header,
    /// Within the payload of a HEADERS or CONTINUATION frame; this many bytes are missing.
    Block(usize),
}

/// A header block whose end has not come.
struct Held {
    flags: u8,
    stream: u32,
    /// The block, without padding; with priority first when `flags` says so.
    block: Vec<u8>,
    frames: usize,
}

/// The one direction, client to server, of one connection.
pub struct Rewriter {
    state: State,
    /// The frame header and payload being gathered.
    gathered: Vec<u8>,
    held: Option<Held>,
    /// The frames of the held block as they came, for when nothing is to be changed.
    verbatim: Vec<u8>,
}

impl Default for Rewriter {
    fn default() -> Self {
        Self { state: State::Pass(PREFACE), gathered: Vec::new(), held: None, verbatim: Vec::new() }
    }
}

impl Rewriter {
    /// Whether the next `n` bytes pass as they are. If so they are accounted for, and need not be fed.
    pub fn pass(&mut self, n: usize) -> bool {
        match &mut self.state {
            State::Pass(left) if *left > n => {
                *left -= n;
                true
            }
            _ => false,
        }
    }

    /// Takes bytes from the client and appends what the server is to read. After an error the connection is over.
    pub fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), ShimError> {
        while !input.is_empty() {
            match self.state {
                State::Pass(left) => {
                    let bytes = take(&mut input, left);
                    out.extend_from_slice(bytes);
                    self.state = if bytes.len() == left { State::Header } else { State::Pass(left - bytes.len()) };
                }
                State::Header => {
                    let bytes = take(&mut input, HEADER - self.gathered.len());
                    self.gathered.extend_from_slice(bytes);
                    if self.gathered.len() == HEADER {
                        self.frame_begins(out)?;
                    }
                }
                State::Block(missing) => {
                    let bytes = take(&mut input, missing);
                    self.gathered.extend_from_slice(bytes);
                    self.state = State::Block(missing - bytes.len());
                    if bytes.len() == missing {
                        self.frame_ends(out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn frame_begins(&mut self, out: &mut Vec<u8>) -> Result<(), ShimError> {
        let FrameHeader { length, kind, stream, .. } = FrameHeader::read(&self.gathered)?;
        match (&self.held, kind) {
            (None, HEADERS) => {}
            (Some(held), CONTINUATION) if held.stream == stream => {}
            // RFC 9113, section 6.10: nothing may come between the frames of a header block.
            (Some(_), _) | (None, CONTINUATION) => return Err(ShimError::Interleaved),
            (None, _) => {
                out.append(&mut self.gathered);
                self.state = if length == 0 { State::Header } else { State::Pass(length) };
                return Ok(());
            }
        }
        let held = self.held.as_ref().map_or(0, |h| h.block.len());
        if length + held > MAX_BLOCK {
            return Err(ShimError::TooLarge);
        }
        self.state = State::Block(length);
        if length == 0 { self.frame_ends(out) } else { Ok(()) }
    }

    fn frame_ends(&mut self, out: &mut Vec<u8>) -> Result<(), ShimError> {
        self.state = State::Header;
        let header = FrameHeader::read(&self.gathered)?;
        let payload = &self.gathered[HEADER..];
        match &mut self.held {
            None => {
                let block = unpadded(payload, header.flags)?.to_vec();
                self.held = Some(Held { flags: header.flags, stream: header.stream, block, frames: 1 });
            }
            Some(held) if held.frames == MAX_FRAMES => return Err(ShimError::TooLarge),
            Some(held) => {
                held.block.extend_from_slice(payload);
                held.frames += 1;
            }
        }
        self.verbatim.append(&mut self.gathered);
        if header.flags & END_HEADERS == 0 {
            return Ok(());
        }
        let Some(held) = self.held.take() else { return Ok(()) };
        let (priority, block) = held.block.split_at(if held.flags & PRIORITY == 0 { 0 } else { 5 });
        match hpack::rewrite(block)? {
            None => out.extend_from_slice(&self.verbatim),
            Some(block) => emit(&held, priority, &block, out),
        }
        self.verbatim.clear();
        // One large block should not be paid for until the connection ends.
        self.verbatim.shrink_to(FRAME);
        self.gathered.shrink_to(FRAME);
        Ok(())
    }
}

/// The block as one HEADERS frame and as many CONTINUATION frames as it needs, without padding.
fn emit(held: &Held, priority: &[u8], block: &[u8], out: &mut Vec<u8>) {
    let (first, mut rest) = block.split_at(block.len().min(FRAME - priority.len()));
    let end = |rest: &[u8]| if rest.is_empty() { END_HEADERS } else { 0 };
    let flags = held.flags & (END_STREAM | PRIORITY) | end(rest);
    frame(HEADERS, flags, held.stream, &[priority, first], out);
    while !rest.is_empty() {
        let (next, after) = rest.split_at(rest.len().min(FRAME));
        rest = after;
        frame(CONTINUATION, end(rest), held.stream, &[next], out);
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[&[u8]], out: &mut Vec<u8>) {
    // At most FRAME bytes, which 24 bits hold.
    let length = payload.iter().map(|p| p.len()).sum::<usize>() as u32;
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    payload.iter().for_each(|p| out.extend_from_slice(p));
}

struct FrameHeader {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl FrameHeader {
    fn read(bytes: &[u8]) -> Result<Self, ShimError> {
        let Some(&[a, b, c, kind, flags, s0, s1, s2, s3]) = bytes.first_chunk::<HEADER>() else {
            return Err(ShimError::Truncated);
        };
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Ok(Self { length, kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]) })
    }
}

/// The payload of a HEADERS frame without its padding (RFC 9113, section 6.2), long enough for what its flags say.
fn unpadded(payload: &[u8], flags: u8) -> Result<&[u8], ShimError> {
    let rest = if flags & PADDED == 0 {
        payload
    } else {
        let (padding, rest) = payload.split_first().ok_or(ShimError::Padding)?;
        let kept = rest.len().checked_sub(usize::from(*padding)).ok_or(ShimError::Padding)?;
        &rest[..kept]
    };
    if flags & PRIORITY != 0 && rest.len() < 5 { Err(ShimError::Padding) } else { Ok(rest) }
}

/// The first `n` bytes of `input`, or all it has.
fn take<'a>(input: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (first, rest) = input.split_at(n.min(input.len()));
    *input = rest;
    first
}
