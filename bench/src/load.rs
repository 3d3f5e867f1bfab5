//! Two kinds of load. Closed: so many callers, each sends when it has its answer; says how much there is. Open: requests
//! at fixed times whoever is ready, latency counted from the time each was meant to go; says how long people wait.

use crate::stopwatch::{Span, now, until};
use anyhow::{Result, ensure};
use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, task::JoinSet};

/// One caller with all it needs ready made.
pub trait Caller: Send + 'static {
    /// One request and its whole answer.
    fn call(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// Sorted.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    pub fn new(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all)
    }
    /// The latency that the share `quantile` of all requests did not exceed, in milliseconds.
    pub fn millis(&self, quantile: f64) -> f64 {
        let rank = (quantile * self.0.len() as f64).ceil() as usize;
        let at = self.0.get(rank.saturating_sub(1)).or(self.0.last());
        at.map_or(f64::NAN, |d| d.as_secs_f64() * 1e3)
    }
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// What a load came to.
#[derive(Clone, Debug)]
pub struct Load {
    pub per_second: f64,
    pub latencies: Latencies,
    /// Requests in all, those of the warm-up too.
    pub total: usize,
}

/// All callers at once, each with one request in flight. Answers the callers too, with their connections.
pub async fn closed<C: Caller>(callers: Vec<C>, span: Span) -> Result<(Load, Vec<C>)> {
    let begin = now() + span.warm_up;
    let end = begin + span.measured;
    let mut running = JoinSet::new();
    for mut caller in callers {
        running.spawn(async move {
            let (mut seen, mut sent_in_all) = (Vec::new(), 0);
            loop {
                let sent = now();
                if sent >= end {
                    return Ok::<_, anyhow::Error>((caller, seen, sent_in_all));
                }
                caller.call().await?;
                sent_in_all += 1;
                let done = now();
                if done >= begin && done < end {
                    seen.push(done - sent);
                }
            }
        });
    }
    let (mut all, mut callers, mut total) = (Vec::new(), Vec::new(), 0);
    while let Some(ended) = running.join_next().await {
        let (caller, seen, sent) = ended??;
        callers.push(caller);
        total += sent;
        all.extend(seen);
    }
    let per_second = all.len() as f64 / span.measured.as_secs_f64();
    Ok((Load { per_second, latencies: Latencies::new(all), total }, callers))
}

/// All callers at once, each `each` times.
pub async fn times<C: Caller>(callers: Vec<C>, each: usize) -> Result<Latencies> {
    let mut running = JoinSet::new();
    for mut caller in callers {
        running.spawn(async move {
            let mut seen = Vec::with_capacity(each);
            for _ in 0..each {
                let sent = now();
                caller.call().await?;
                seen.push(now() - sent);
            }
            Ok::<_, anyhow::Error>(seen)
        });
    }
    let mut all = Vec::new();
    while let Some(ended) = running.join_next().await {
        all.extend(ended??);
    }
    Ok(Latencies::new(all))
}

/// `rate` requests a second by the clock, over whichever caller is free; one that finds none waits, and its wait counts.
pub async fn open<C: Caller>(callers: Vec<C>, rate: u32, span: Span) -> Result<Latencies> {
    let free = Arc::new(Semaphore::new(callers.len()));
    let callers = Arc::new(Mutex::new(VecDeque::from(callers)));
    let interval = Duration::from_secs(1) / rate;
    let start = now();
    let warm = span.warm_up;
    let total = (span.warm_up + span.measured).as_nanos() / interval.as_nanos().max(1);
    let total = u32::try_from(total)?;
    let mut running = JoinSet::new();
    for i in 0..total {
        let meant = start + interval * i;
        until(meant).await;
        let (free, callers) = (free.clone(), callers.clone());
        running.spawn(async move {
            let _place = free.acquire_owned().await?;
            // In turn, so that none lies idle for so long that the server closes it.
            let taken = callers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(mut caller) = taken else { anyhow::bail!("a place without a caller") };
            let outcome = caller.call().await;
            let took = now() - meant;
            callers.lock().unwrap_or_else(PoisonError::into_inner).push_back(caller);
            outcome.map(|()| (meant - start >= warm).then_some(took))
        });
    }
    let mut all = Vec::new();
    while let Some(ended) = running.join_next().await {
        all.extend(ended??);
    }
    ensure!(!all.is_empty(), "nothing was measured");
    Ok(Latencies::new(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_least_latency_that_its_share_did_not_exceed() {
        let all = Latencies::new((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!((all.millis(0.5), all.millis(0.99), all.millis(1.0)), (50.0, 99.0, 100.0));
        assert!(Latencies::default().millis(0.5).is_nan());
    }
}
