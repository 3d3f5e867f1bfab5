//! Pages of the list calls: what a page token says, and which items stand on a page.
//!
//! Knows nothing of what is listed; whoever lists says which key an item has.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proto_types::id::MAX_SPIFFE_ID;
use tonic::Status;

/// Most items of a page; a larger wish is cut.
const MAX_PAGE: usize = 1000;
/// Most items of an answer to who asked for no pages: some such callers never look for a second one.
const MAX_UNPAGED: usize = 10_000;
/// What a page token begins with: another version's is no token.
const TOKEN: &str = "1.";

/// Which page is asked for.
pub(crate) struct Page {
    /// The key of the last item of the page before.
    after: Option<String>,
    size: usize,
}

impl Page {
    pub(crate) fn read(token: &str, size: i32) -> Result<Self, Status> {
        let size = match usize::try_from(size) {
            Err(_) => return Err(Status::invalid_argument("page_size is negative")),
            Ok(0) => MAX_UNPAGED,
            Ok(n) => n.min(MAX_PAGE),
        };
        let after = if token.is_empty() {
            None
        } else {
            let ours = "the page token is none that this server gave; begin with the first page again";
            Some(read_token(token).ok_or_else(|| Status::invalid_argument(ours))?)
        };
        Ok(Self { after, size })
    }

    /// The items of this page in the order of their keys, and the token of the next. What came or went in between is
    /// seen or not; what stood all the time is seen once.
    pub(crate) fn cut<T>(self, mut items: Vec<T>, key: impl Fn(&T) -> String) -> (Vec<T>, String) {
        if let Some(after) = &self.after {
            items.retain(|item| key(item) > *after);
        }
        items.sort_by_cached_key(&key);
        let more = items.len() > self.size;
        items.truncate(self.size);
        let next = items.last().filter(|_| more).map(|last| write_token(&key(last))).unwrap_or_default();
        (items, next)
    }
}

pub(crate) fn write_token(key: &str) -> String {
    format!("{TOKEN}{}", URL_SAFE_NO_PAD.encode(key))
}

/// Bounded before it is decoded; keys are entry ids and SPIFFE IDs.
pub(crate) fn read_token(token: &str) -> Option<String> {
    if token.len() > TOKEN.len() + MAX_SPIFFE_ID.div_ceil(3) * 4 {
        return None;
    }
    String::from_utf8(URL_SAFE_NO_PAD.decode(token.strip_prefix(TOKEN)?).ok()?).ok().filter(|key| !key.is_empty())
}

#[cfg(test)]
#[path = "../../../../fuzz/properties/page_token.rs"]
mod property;
#[cfg(test)]
#[path = "../../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn names(n: usize) -> Vec<String> {
        (0..n).rev().map(|n| format!("e{n:05}")).collect()
    }

    #[test]
    fn every_item_is_on_one_page_whatever_comes_and_goes_between() {
        let mut items = names(25);
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let (some, next) = Page::read(&token, 10).unwrap().cut(items.clone(), String::clone);
            seen.extend(some);
            if next.is_empty() {
                break;
            }
            token = next;
            // One that was seen goes, and so does the one that the token names; one that lies behind comes.
            items.retain(|i| i != "e00000" && seen.last() != Some(i));
            items.push("d".into());
        }
        assert_eq!(seen, names(25).into_iter().rev().collect::<Vec<_>>());
    }

    /// F29: neither a size nor a token makes room for what is not there.
    #[test]
    fn sizes_are_cut_and_negative_ones_refused() {
        let sizes = |wish, there| Page::read("", wish).map(|p| p.cut(names(there), String::clone).0.len());
        for bad in [-1, i32::MIN] {
            assert_eq!(sizes(bad, 3).unwrap_err().code(), Code::InvalidArgument);
        }
        assert_eq!(sizes(1, 3).unwrap(), 1);
        assert_eq!(sizes(i32::MAX, 3).unwrap(), 3);
        assert_eq!(sizes(i32::MAX, 3000).unwrap(), MAX_PAGE);
        assert_eq!(sizes(0, 3000).unwrap(), 3000);
        assert_eq!(sizes(0, 12_000).unwrap(), MAX_UNPAGED);
    }

    #[test]
    fn a_token_that_is_not_ours_is_refused_and_ours_is_read() {
        let long = format!("spiffe://example.org/{}", "a".repeat(MAX_SPIFFE_ID - 21));
        for key in ["e1", &long] {
            assert_eq!(read_token(&write_token(key)).as_deref(), Some(key));
        }
        let ours = write_token("e00001");
        let huge = ours.repeat(1000);
        for bad in ["e00001", "1.", "1.=", "1.!", "2.ZTE", "1.ZTE=", "1.ZTF", "1._w", "\0", &ours[1..], &huge] {
            let refused = Page::read(bad, 10).err().unwrap();
            assert_eq!(refused.code(), Code::InvalidArgument, "{bad:?}");
            assert!(!refused.message().contains(bad), "{bad:?} comes back");
        }
    }

    #[test]
    fn the_committed_corpus_of_page_tokens_and_its_neighbours_hold() {
        replay::over("page_token", |data| property::holds(data, read_token, write_token));
    }
}
