//! The XML that an STS answers with, as the texts of its leaves. Bounded, and the least of XML that such an answer is
//! made of: no document type, so no entity but the five of XML itself, no processing instruction, no CDATA.

use proto_types::Secret;
use quick_xml::{Reader, events::Event};

/// Longest answer read, bytes: a session token has a few kilobytes at most.
pub(super) const MAX_BYTES: usize = 64 * 1024;
const MAX_DEPTH: usize = 8;
const MAX_LEAVES: usize = 64;

/// Why an answer is not read. Nothing of it is quoted: it may hold a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum XmlError {
    #[error("it is longer than 64 KiB")]
    TooLong,
    #[error("it is not UTF-8")]
    Encoding,
    #[error("it is not well-formed XML")]
    Malformed,
    #[error("it has a document type or another part of XML that no STS sends")]
    Forbidden,
    #[error("it is nested deeper than 8 elements or has more than 64 texts")]
    TooMuch,
    #[error("it says the same twice")]
    Twice,
}

/// The leaves of one document by their paths: `Root/Child/Leaf`, without name space prefixes.
pub(super) struct Leaves(Vec<(String, Secret<String>)>);

impl Leaves {
    /// The text at `path`; of two, none is believed.
    pub(super) fn text(&self, path: &str) -> Result<Option<&str>, XmlError> {
        let mut found = self.0.iter().filter(|(p, _)| p == path).map(|(_, text)| text.expose().as_str());
        let text = found.next();
        if found.next().is_some() { Err(XmlError::Twice) } else { Ok(text) }
    }

    /// Whether the document's root is `name`.
    pub(super) fn is_root(&self, name: &str) -> bool {
        self.0.first().is_some_and(|(path, _)| path.split('/').next() == Some(name))
    }
}

/// An element that is open.
struct Open {
    name: String,
    text: String,
    has_children: bool,
}

pub(super) fn read(bytes: &[u8]) -> Result<Leaves, XmlError> {
    if bytes.len() > MAX_BYTES {
        return Err(XmlError::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| XmlError::Encoding)?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    reader.config_mut().expand_empty_elements = true;
    let mut open: Vec<Open> = Vec::new();
    let mut leaves = Vec::new();
    let mut ended = false;
    loop {
        match reader.read_event().map_err(|_| XmlError::Malformed)? {
            Event::Start(element) if !ended => {
                if open.len() == MAX_DEPTH {
                    return Err(XmlError::TooMuch);
                }
                if let Some(parent) = open.last_mut() {
                    parent.has_children = true;
                }
                let name = element.local_name().into_inner().to_string();
                open.push(Open { name, text: String::new(), has_children: false });
            }
            Event::End(_) => {
                let path = open.iter().map(|o| o.name.as_str()).collect::<Vec<_>>().join("/");
                let done = open.pop().ok_or(XmlError::Malformed)?;
                ended = open.is_empty();
                if done.has_children {
                    continue;
                }
                if leaves.len() == MAX_LEAVES {
                    return Err(XmlError::TooMuch);
                }
                leaves.push((path, Secret::new(done.text.trim().to_string())));
            }
            Event::Text(text) => add(&mut open, &text)?,
            Event::GeneralRef(reference) => {
                let character = match &*reference {
                    "lt" => '<',
                    "gt" => '>',
                    "amp" => '&',
                    "apos" => '\'',
                    "quot" => '"',
                    _ => reference.resolve_char_ref().ok().flatten().ok_or(XmlError::Forbidden)?,
                };
                add(&mut open, character.encode_utf8(&mut [0; 4]))?;
            }
            Event::Comment(_) | Event::Decl(_) => {}
            Event::Eof if ended => return Ok(Leaves(leaves)),
            Event::Eof | Event::Start(_) | Event::Empty(_) => return Err(XmlError::Malformed),
            Event::DocType(_) | Event::PI(_) | Event::CData(_) => return Err(XmlError::Forbidden),
        }
    }
}

/// Text outside of the root is white space.
fn add(open: &mut [Open], text: &str) -> Result<(), XmlError> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err(XmlError::Malformed),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> XmlError {
        read(text.as_bytes()).err().unwrap_or_else(|| panic!("{text} was read"))
    }

    #[test]
    fn leaves_are_found_by_their_path_whatever_the_prefix() {
        let text = "<?xml version=\"1.0\"?>\n<s:R xmlns:s=\"x\">\n <s:A><B> a&amp;b&#x21; </B><C/></s:A>\n</s:R>\n";
        let leaves = read(text.as_bytes()).unwrap();
        assert_eq!(leaves.text("R/A/B"), Ok(Some("a&b!")));
        assert_eq!((leaves.text("R/A/C"), leaves.text("R/A")), (Ok(Some("")), Ok(None)));
        assert!(leaves.is_root("R") && !leaves.is_root("A"));
    }

    /// K18.
    #[test]
    fn what_no_sts_sends_is_not_read() {
        let bomb = "<!DOCTYPE r [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><r><x>&b;</x></r>";
        assert_eq!(refused(bomb), XmlError::Forbidden);
        let external = "<!DOCTYPE r SYSTEM \"file:///etc/passwd\"><r><x>a</x></r>";
        for text in [external, "<r><x>&a;</x></r>", "<r><![CDATA[x]]></r>", "<r><?php x ?></r>"] {
            assert_eq!(refused(text), XmlError::Forbidden, "{text}");
        }
        for text in ["", " ", "x", "<r>", "</r>", "<r></x>", "<r/><r/>", "<r/>x", "x<r/>", "<r><x></r></x>", "<r>&</r>"]
        {
            assert_eq!(refused(text), XmlError::Malformed, "{text}");
        }
        assert_eq!(refused(&format!("{}{}", "<x>".repeat(9), "</x>".repeat(9))), XmlError::TooMuch);
        assert_eq!(refused(&format!("<r>{}</r>", "<x/>".repeat(65))), XmlError::TooMuch);
        assert_eq!(refused(&format!("<r>{}</r>", " ".repeat(MAX_BYTES))), XmlError::TooLong);
        assert_eq!(read(b"<r>\xff</r>").err(), Some(XmlError::Encoding));

        assert!(read(format!("{}{}", "<x>".repeat(8), "</x>".repeat(8)).as_bytes()).is_ok());
        assert!(read(format!("<r>{}</r>", "<x/>".repeat(64)).as_bytes()).is_ok());
        assert!(read(b"<r><!-- a comment --></r>").is_ok());
        let twice = read(b"<r><x>1</x><x>2</x></r>").unwrap();
        assert_eq!(twice.text("r/x"), Err(XmlError::Twice));
    }
}
