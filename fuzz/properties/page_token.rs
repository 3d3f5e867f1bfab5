//! What holds for any bytes sent as a page token. Shared by the fuzz target and the tests.

/// A token that is read is the one spelling of its key, which is bounded and says something; and every such key has a
/// token. Answers whether it was one.
pub fn holds(data: &[u8], read: impl Fn(&str) -> Option<String>, write: impl Fn(&str) -> String) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let key = read(text);
    if let Some(key) = &key {
        assert!(!key.is_empty() && key.len() <= 2048 + 2);
        assert_eq!(write(key), text);
    }
    if !text.is_empty() && text.len() <= 2048 {
        assert_eq!(read(&write(text)).as_deref(), Some(text));
    }
    key.is_some()
}
