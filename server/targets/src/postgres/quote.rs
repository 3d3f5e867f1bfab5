//! Quoting for statements that take no parameters (`CREATE ROLE`, `ALTER ROLE`, `GRANT`). Everything else is bound.

/// An identifier, always quoted. A NUL cannot be part of one; it is dropped, so that no name ends early.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('\0', "").replace('"', "\"\""))
}

/// A string constant, right whatever `standard_conforming_strings` says: with a backslash inside it is written `E''`.
pub(super) fn literal(text: &str) -> String {
    let text = text.replace('\0', "").replace('\'', "''");
    if text.contains('\\') { format!(" E'{}'", text.replace('\\', "\\\\")) } else { format!("'{text}'") }
}

/// `text` for LIKE with the default escape: matches itself and nothing else.
pub(super) fn like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

/// One line of at most `max` characters for a comment that people read: no control characters.
pub(super) fn one_line(text: &str, max: usize) -> String {
    let shown: String = text.chars().take(max).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(max).is_some() { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_inside_their_quotes() {
        assert_eq!(ident("a\"; ALTER ROLE x SUPERUSER;--"), "\"a\"\"; ALTER ROLE x SUPERUSER;--\"");
        assert_eq!(ident("a\0b"), "\"ab\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("\\'; DROP ROLE postgres;--"), " E'\\\\''; DROP ROLE postgres;--'");
        assert_eq!(literal("plain"), "'plain'");
    }

    #[test]
    fn a_pattern_matches_its_underscores_only() {
        assert_eq!(like("errand_k3m9x_"), "errand\\_k3m9x\\_");
    }
}
