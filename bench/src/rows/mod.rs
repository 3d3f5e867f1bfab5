//! One file per group of rows: what is done, how often, and which target it has.

pub mod changes;
pub mod entry;
pub mod errands;
pub mod exchange;
pub mod leases;
pub mod ledger;
pub mod replicas;
pub mod ssh;
pub mod streams;
pub mod svid;
pub mod verify;

use crate::{
    load::Load,
    machine::Used,
    report::{Report, Row, Unit},
};

/// A rate, how long one waits for it at the end of the queue, and what it costs the server.
pub fn rated(report: &mut Report, row: Row, load: &Load, used: Used) {
    let name = row.name.split(", ").next().unwrap_or_default().to_string();
    disturbed(report, &name, used);
    report.add(row);
    report.add(Row::new(format!("  {name}, p99"), Unit::Millis, load.latencies.millis(0.99)));
    let each = used.server / load.total.max(1) as f64 * 1e6;
    report.add(Row::new(format!("  {name}, the server's CPU each"), Unit::Micros, each));
}

pub fn disturbed(report: &mut Report, what: &str, used: Used) {
    if let Some(remark) = used.remark(what) {
        report.note(remark);
    }
}
