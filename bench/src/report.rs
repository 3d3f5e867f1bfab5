//! Rows and how they are shown: each with the raw limit measured in the same run beside it, and the target it has.

use serde::Serialize;
use std::fmt::Write as _;

/// What is counted, and how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    PerSecond,
    Millis,
    Micros,
    Mebibytes,
    Seconds,
    /// Of one core.
    Percent,
    /// So many for each.
    Count,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond if value >= 100.0 => format!("{}/s", thousands(value)),
            Self::PerSecond => format!("{value:.1}/s"),
            Self::Millis => format!("{value:.2} ms"),
            Self::Micros => format!("{value:.0} µs"),
            Self::Seconds => format!("{value:.2} s"),
            Self::Count => format!("{value:.4}"),
            Self::Percent => format!("{value:.1} %"),
            Self::Mebibytes => format!("{value:.1} MiB"),
        }
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// The most that could be reached, measured in this run.
#[derive(Clone, Debug, Serialize)]
pub struct Limit {
    pub what: String,
    pub value: f64,
}

/// What a row should reach.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// Of the limit.
    Share(f64),
}

#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub measured: f64,
    pub unit: Unit,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

impl Row {
    pub fn new(name: impl Into<String>, unit: Unit, measured: f64) -> Self {
        Self { name: name.into(), measured, unit, limit: None, target: None }
    }
    pub fn of(mut self, what: impl Into<String>, value: f64) -> Self {
        self.limit = Some(Limit { what: what.into(), value });
        self
    }
    pub fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    fn share(&self) -> Option<f64> {
        self.limit.as_ref().map(|l| self.measured / l.value)
    }

    pub fn met(&self) -> Option<bool> {
        match self.target? {
            Target::AtLeast(least) => Some(self.measured >= least),
            Target::AtMost(most) => Some(self.measured <= most),
            Target::Share(least) => self.share().map(|s| s >= least),
        }
    }

    fn cells(&self) -> [String; 6] {
        let target = match self.target {
            None => String::new(),
            Some(Target::AtLeast(v)) => format!("≥ {}", self.unit.show(v)),
            Some(Target::AtMost(v)) => format!("≤ {}", self.unit.show(v)),
            Some(Target::Share(v)) => format!("≥ {:.0} %", v * 100.0),
        };
        let limit = self.limit.as_ref();
        [
            self.name.clone(),
            self.unit.show(self.measured),
            limit.map(|l| format!("{} {}", self.unit.show(l.value), l.what)).unwrap_or_default(),
            self.share().map(|s| format!("{:.0} %", s * 100.0)).unwrap_or_default(),
            target,
            self.met().map_or("", |met| if met { "yes" } else { "NO" }).into(),
        ]
    }
}

/// All rows, in the order they were measured.
#[derive(Default, Serialize)]
pub struct Report {
    /// How and where it was measured.
    pub notes: Vec<String>,
    pub rows: Vec<Row>,
}

impl Report {
    /// Adds a row and says so: a run takes minutes.
    pub fn add(&mut self, row: Row) {
        let [name, measured, ..] = row.cells();
        eprintln!("  {name}: {measured}");
        self.rows.push(row);
    }
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    pub fn table(&self) -> String {
        let head = ["", "measured", "raw limit", "share", "target", "met"].map(String::from);
        let lines: Vec<[String; 6]> = std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let mut widths = [0; 6];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = String::new();
        for line in &lines {
            let cells = line.iter().zip(widths).enumerate().map(|(i, (cell, width))| match i {
                // Figures stand under each other; words begin at the same place.
                1 | 3 | 4 => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            });
            let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        for note in &self.notes {
            let _ = writeln!(out, "{note}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_met_by_its_own_kind_of_target() {
        let rate = |share| Row::new("x", Unit::PerSecond, 45.0).of("raw", 100.0).target(Target::Share(share));
        assert_eq!((rate(0.45).met(), rate(0.46).met()), (Some(true), Some(false)));
        let wait = |most| Row::new("x", Unit::Millis, 30.0).target(Target::AtMost(most));
        assert_eq!((wait(30.0).met(), wait(29.9).met()), (Some(true), Some(false)));
        assert_eq!(Row::new("x", Unit::Mebibytes, 1.0).met(), None);
    }

    #[test]
    fn large_figures_are_grouped() {
        assert_eq!((thousands(999.0), thousands(1_234_567.0)), ("999".into(), "1,234,567".into()));
    }
}
