//! Work on many records at once, for those who verify: on every core, in order.

use std::thread;

/// Fewer items than these are not worth a thread.
const FEW: usize = 64;
/// More threads than these wait for whoever reads the journal.
const MOST: usize = 4;

/// `work` on each item, answered in their order.
pub fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST);
    if items.len() < FEW || threads == 1 {
        return items.iter().map(work).collect();
    }
    let (first, rest) = items.split_at(items.len().div_ceil(threads));
    let run = |part: &[T]| part.iter().map(&work).collect::<Vec<R>>();
    thread::scope(|scope| {
        let run = &run;
        let others: Vec<_> = rest.chunks(first.len()).map(|part| scope.spawn(move || run(part))).collect();
        let mut done = run(first);
        for other in others {
            match other.join() {
                Ok(part) => done.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_are_answered_in_their_order() {
        for count in [0, 1, FEW - 1, FEW, FEW + 1, 1000, 1003] {
            let items: Vec<_> = (0..count).collect();
            let expected: Vec<_> = items.iter().map(|n| n * 3).collect();
            assert_eq!(each(&items, |n| n * 3), expected, "{count}");
        }
    }
}
