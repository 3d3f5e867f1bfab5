//! Reading one field of a JSON answer for a cell. An absent or null field is `-`; nothing here fails, because a table
//! shows what there is.

use serde_json::Value;

/// The text of `value[path]`, `path` being field names joined by dots. Lists are joined by commas.
pub fn text(value: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(value, |v, key| v.get(key));
    found.map_or_else(|| "-".into(), plain)
}

/// The text of a value; objects become compact JSON.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(s) if s.is_empty() => "-".into(),
        Value::String(s) => s.clone(),
        Value::Number(n) => n.to_string(),
        Value::Array(list) if list.is_empty() => "-".into(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(_) => value.to_string(),
    }
}

/// A time without its fraction of a second: `2026-11-21T22:44:34Z`.
pub fn time(value: &Value, path: &str) -> String {
    let text = text(value, path);
    match (text.find('.'), text.ends_with('Z')) {
        (Some(dot), true) => format!("{}Z", &text[..dot]),
        _ => text,
    }
}

/// `target/role`, whether the answer has them apart or as one `role`.
pub fn role(value: &Value) -> String {
    let role = text(value, "role");
    match text(value, "target").as_str() {
        "-" => role,
        target if role == "-" => target.to_string(),
        _ if role.contains('/') => role,
        target => format!("{target}/{role}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_absent_field_is_a_dash_and_a_present_one_its_text() {
        let v = json!({"a": {"b": "x"}, "list": ["p", "q"], "none": null, "t": "2026-11-21T22:44:34.123Z"});
        assert_eq!(text(&v, "a.b"), "x");
        assert_eq!(text(&v, "a.c"), "-");
        assert_eq!(text(&v, "none"), "-");
        assert_eq!(text(&v, "list"), "p, q");
        assert_eq!(time(&v, "t"), "2026-11-21T22:44:34Z");
    }

    #[test]
    fn a_role_reads_the_same_from_both_spellings() {
        assert_eq!(role(&json!({"target": "lake", "role": "deploy"})), "lake/deploy");
        assert_eq!(role(&json!({"role": "lake/deploy"})), "lake/deploy");
        assert_eq!(role(&json!({"target": "lake"})), "lake");
    }
}
