//! The machine while something is measured: what it is, what our own processes used of it, and what everybody else did.

use crate::stopwatch::{now, until};
use anyhow::{Context, Result};
use std::{fs, time::Duration};

/// Share of the cores that others may use before a figure is said to be disturbed.
const DISTURBED: f64 = 0.05;
/// Of the kernel's own clock in `/proc`, a second.
const TICKS: f64 = 100.0;

/// One line about cores and build.
pub fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ").map(|(_, m)| m.to_string()));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let profile = if cfg!(debug_assertions) { "a DEBUG build: figures mean nothing" } else { "release build" };
    format!("{cores} cores ({}), client on the same; {profile}", model.unwrap_or_else(|| "unknown".into()))
}

/// A look at the clocks, to be compared with a later one.
pub struct Watch {
    server: u32,
    ours: Vec<u32>,
    begin: Ticks,
}

#[derive(Clone, Copy)]
struct Ticks {
    server: f64,
    ours: f64,
    busy: f64,
    all: f64,
}

/// What the time between two looks went into.
#[derive(Clone, Copy)]
pub struct Used {
    /// CPU of the server, seconds.
    pub server: f64,
    /// Share of all cores that went to neither server, agent nor this program.
    pub others: f64,
}

impl Watch {
    /// `server` and `agent`: process ids.
    pub fn begin(server: u32, agent: Option<u32>) -> Result<Self> {
        let ours: Vec<u32> = agent.into_iter().chain([server, std::process::id()]).collect();
        let begin = ticks(server, &ours)?;
        Ok(Self { server, ours, begin })
    }

    pub fn end(self) -> Result<Used> {
        let (begin, end) = (self.begin, ticks(self.server, &self.ours)?);
        let others = (end.busy - begin.busy) - (end.ours - begin.ours);
        Ok(Used {
            server: (end.server - begin.server) / TICKS,
            others: (others / (end.all - begin.all).max(1.0)).clamp(0.0, 1.0),
        })
    }
}

impl Used {
    /// A remark when others took so much that the figure is worth less.
    pub fn remark(&self, what: &str) -> Option<String> {
        let percent = self.others * 100.0;
        (self.others > DISTURBED).then(|| format!("{what}: disturbed, others used {percent:.0} % of the cores"))
    }
}

fn ticks(server: u32, ours: &[u32]) -> Result<Ticks> {
    let stat = fs::read_to_string("/proc/stat")?;
    // user nice system idle iowait irq softirq steal; guests are counted in user already.
    let line = stat.lines().next().context("/proc/stat has a first line")?;
    let times: Vec<f64> = line.split_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>()?;
    let all: f64 = times.iter().sum();
    let idle: f64 = times.iter().skip(3).take(2).sum();
    let used = ours.iter().map(|pid| of_process(*pid)).sum::<Result<f64>>()?;
    Ok(Ticks { server: of_process(server)?, ours: used, busy: all - idle, all })
}

/// CPU a process has used since it began, seconds.
pub fn cpu(pid: u32) -> Result<f64> {
    Ok(of_process(pid)? / TICKS)
}

/// Percent of one core that went, over `time`, to whatever `cpu` counts the seconds of.
pub async fn idle(time: Duration, cpu: impl Fn() -> Result<f64>) -> Result<f64> {
    let (begin, before) = (now(), cpu()?);
    until(begin + time).await;
    Ok((cpu()? - before) / (now() - begin).as_secs_f64() * 100.0)
}

fn of_process(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name, which may hold anything: state is field 3, user and system time are 14 and 15.
    let (_, rest) = stat.rsplit_once(')').context("a process has a name")?;
    let times: Vec<f64> = rest.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(times.iter().sum())
}
