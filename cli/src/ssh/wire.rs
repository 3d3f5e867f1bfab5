//! The data types of the SSH protocols (RFC 4251, section 5): read from bytes that are all there already, written into a
//! buffer. A reader answers `None` for what is cut short and never looks past its end.

/// Bytes not yet read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|one| one[0])
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Whatever is not zero is true.
    pub fn boolean(&mut self) -> Option<bool> {
        self.byte().map(|byte| byte != 0)
    }

    pub fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length)
    }

    /// That nothing follows.
    pub fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

pub fn put_u32(out: &mut Vec<u8>, number: usize) {
    // What is written here is at most as long as a message, which is bounded far below.
    out.extend(u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
}

pub fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len());
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_cut_short_is_not() {
        let mut bytes = vec![7, 1];
        put_string(&mut bytes, b"abc");
        put_u32(&mut bytes, 9);
        let read = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            let text = (reader.byte()? == 7 && reader.boolean()?).then(|| reader.string()).flatten()?.to_vec();
            let number = reader.u32()?;
            reader.end().map(|()| (text, number))
        };
        assert_eq!(read(&bytes), Some((b"abc".to_vec(), 9)));
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(read(&[&bytes[..], &[0]].concat()), None, "one byte more");
        assert_eq!(Reader::new(&[0xff; 8]).string(), None, "a length past the end");
    }
}
