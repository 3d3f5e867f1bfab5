//! A difference as people read it: what is created, changed and deleted, and texts line by line.

use crate::output::{
    style::{Style, clean},
    value::{plain, text},
};
use serde_json::Value;

/// Texts with more lines are told by their number of lines.
const MAX_LINES: usize = 2000;

/// One change with its fields. What is created is named and not spelled out: it stands in the files.
pub fn change(change: &Value, style: Style) -> String {
    let (what, kind, name) = (text(change, "change"), text(change, "kind"), clean(&text(change, "name")));
    let head = match what.as_str() {
        "create" => style.good("+ create"),
        "delete" => style.error("- delete"),
        _ => style.warning("~ update"),
    };
    let mut out = format!("{head} {kind} {name}\n");
    if what == "update" {
        for field in change.get("fields").and_then(Value::as_array).into_iter().flatten() {
            out.push_str(&differs(field));
        }
    }
    out
}

fn differs(field: &Value) -> String {
    let name = text(field, "field");
    let of = |side: &str| field.get(side).cloned().unwrap_or_default();
    let (before, after) = (of("before"), of("after"));
    match (before.as_str(), after.as_str()) {
        (Some(b), Some(a)) if b.contains('\n') || a.contains('\n') => lines(b, a),
        _ => format!("    {name}: {} → {}\n", clean(&plain(&before)), clean(&plain(&after))),
    }
}

/// The lines that only one of two texts has, in order (longest common subsequence).
fn lines(before: &str, after: &str) -> String {
    let (b, a): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    if b.len() > MAX_LINES || a.len() > MAX_LINES {
        return format!("    {} lines → {} lines\n", b.len(), a.len());
    }
    // `common[i][j]`: how many lines `b[i..]` and `a[j..]` share.
    let mut common = vec![vec![0u32; a.len() + 1]; b.len() + 1];
    for i in (0..b.len()).rev() {
        for j in (0..a.len()).rev() {
            common[i][j] = if b[i] == a[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < b.len() || j < a.len() {
        if i < b.len() && j < a.len() && b[i] == a[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == a.len() || (i < b.len() && common[i + 1][j] >= common[i][j + 1]) {
            out.push_str(&format!("    - {}\n", clean(b[i])));
            i += 1;
        } else {
            out.push_str(&format!("    + {}\n", clean(a[j])));
            j += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_differ_are_told_in_their_order() {
        assert_eq!(lines("a\nb\nc\n", "a\nx\nc\nd\n"), "    - b\n    + x\n    + d\n");
        assert_eq!(lines("a\n", "a\n"), "");
        assert_eq!(lines("", "a\nb"), "    + a\n    + b\n");
    }
}
