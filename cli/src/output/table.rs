//! Tables without lines: a header in capitals, two spaces between columns, nothing that a pipe would have to cut away.

use super::style::{Style, clean_line};
use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets::NOTHING};
use serde_json::Value;

/// A column narrower than this, with its gap, is a column of syllables: whole columns leave so much to each other one.
const READABLE: u16 = 12;

/// One column: its head and how its cell is read from a row.
pub struct Column {
    head: &'static str,
    cell: Box<dyn Fn(&Value) -> String>,
    /// Ids and names are copied by hand: they are never broken over two lines.
    whole: bool,
}

impl Column {
    pub fn new(head: &'static str, cell: impl Fn(&Value) -> String + 'static) -> Self {
        Self { head, cell: Box::new(cell), whole: false }
    }
    /// The text at `path`.
    pub fn field(head: &'static str, path: &'static str) -> Self {
        Self::new(head, move |v| super::value::text(v, path))
    }
    /// The time at `path`, whole seconds.
    pub fn time(head: &'static str, path: &'static str) -> Self {
        Self::new(head, move |v| super::value::time(v, path)).whole()
    }
    /// Never broken over two lines.
    pub fn whole(mut self) -> Self {
        self.whole = true;
        self
    }
}

/// A list, one row each. `width`: of the terminal; `None` is as wide as the content.
pub fn list(rows: &[Value], columns: &[Column], width: Option<u16>, style: Style) -> String {
    let mut table = bare(width);
    table.set_header(columns.iter().map(|c| c.head.to_uppercase()));
    for row in rows {
        table.add_row(columns.iter().map(|c| clean_line(&(c.cell)(row))));
    }
    let widest = table.column_max_content_widths();
    let mut room = width.map_or(0, |w| w.saturating_sub(u16::try_from(columns.len()).unwrap_or(u16::MAX) * READABLE));
    for (index, column) in columns.iter().enumerate() {
        let Some(c) = table.column_mut(index) else { continue };
        c.set_padding((0, 2));
        let more = widest.get(index).copied().unwrap_or_default().saturating_sub(READABLE - 2);
        if column.whole && more <= room {
            c.set_constraint(ColumnConstraint::ContentWidth);
            room -= more;
        }
    }
    render(&table, |n, line| if n == 0 { style.strong(line) } else { line.to_string() })
}

/// One thing, a field per line: its name, then its text. Long texts are the terminal's to wrap: a copied line stays one.
pub fn card(value: &Value, fields: &[Column], style: Style) -> String {
    let label = fields.iter().map(|f| f.head.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    let said = fields.iter().map(|f| (f.head, (f.cell)(value)));
    // What is not there is not said; a list has to keep the place, a card has not.
    for (head, text) in said.filter(|(_, text)| text != "-") {
        let head = format!("{head:label$}");
        out.push_str(&format!("{}  {}\n", style.faint(&head), clean_line(&text)));
    }
    out
}

fn bare(width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).force_no_tty();
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table
}

/// The table's text with no space at the ends of lines.
fn render(table: &Table, paint: impl Fn(usize, &str) -> String) -> String {
    let mut out = String::new();
    for (n, line) in table.lines().enumerate() {
        out.push_str(&paint(n, line.trim_end()));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn columns() -> Vec<Column> {
        vec![Column::field("id", "id").whole(), Column::field("intent", "intent")]
    }

    #[test]
    fn a_pipe_gets_every_character_and_a_narrow_terminal_gets_lines_that_fit() {
        let rows = [json!({"id": "0192-long-id", "intent": "compare the totals of October with the ledger"})];
        let wide = list(&rows, &columns(), None, Style::PLAIN);
        assert_eq!(wide, "ID            INTENT\n0192-long-id  compare the totals of October with the ledger\n");
        let narrow = list(&rows, &columns(), Some(40), Style::PLAIN);
        assert!(narrow.lines().all(|l| l.chars().count() <= 40), "{narrow}");
        let tiny = list(&rows, &columns(), Some(20), Style::PLAIN);
        assert!(tiny.lines().all(|l| l.chars().count() <= 20), "{tiny}");
        assert!(narrow.contains("0192-long-id"), "ids stay whole: {narrow}");
    }

    #[test]
    fn a_hostile_intent_cannot_move_the_cursor_and_an_honest_one_is_untouched() {
        let rows = [json!({"id": "a", "intent": "ok\u{1b}[2Jgone\nx"}), json!({"id": "b", "intent": "Grüße"})];
        let text = list(&rows, &columns(), None, Style::PLAIN);
        assert!(!text.contains('\u{1b}') && text.lines().count() == 3, "{text:?}");
        assert!(text.contains("Grüße"));
    }

    #[test]
    fn a_card_has_one_field_per_line() {
        let text = card(&json!({"id": "a", "intent": null}), &columns(), Style::PLAIN);
        assert_eq!(text, "id      a\n");
        let text = card(&json!({"id": "a", "intent": "x"}), &columns(), Style::PLAIN);
        assert_eq!(text, "id      a\nintent  x\n");
    }
}
