//! In which order servers are tried: the priorities and weights of RFC 2782, and those that failed a moment ago last.
//!
//! Decides the order alone; where the list comes from, and who failed, is the caller's to know.

/// One server that may be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<T> {
    pub at: T,
    /// Lower comes first; a higher one is tried when no lower one answers.
    pub priority: u16,
    /// Its share among those of the same priority; 0 is the smallest there is.
    pub weight: u16,
    /// It failed a moment ago.
    pub failed: bool,
}

/// The share of weight 0 beside one of weight 1.
const LEAST: f64 = 0.01;

/// The order in which they are tried. `random` answers numbers in `[0, 1)`.
pub fn order<T>(candidates: Vec<Candidate<T>>, mut random: impl FnMut() -> f64) -> Vec<T> {
    let mut keyed: Vec<_> = candidates
        .into_iter()
        .map(|c| {
            let share = if c.weight == 0 { LEAST } else { f64::from(c.weight) };
            // Sorting by exponential times of these rates draws without replacement, by weight.
            (c.failed, c.priority, -(1.0 - random()).ln() / share, c.at)
        })
        .collect();
    keyed.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)));
    keyed.into_iter().map(|(.., at)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(at: &'static str, priority: u16, weight: u16) -> Candidate<&'static str> {
        Candidate { at, priority, weight, failed: false }
    }

    /// Numbers in `[0, 1)`, the same in each run (splitmix64).
    fn spread() -> impl FnMut() -> f64 {
        let mut state = 1u64;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            crate::rotation::jitter((z ^ (z >> 31)).to_le_bytes())
        }
    }

    #[test]
    fn a_lower_priority_comes_first_and_one_that_failed_last() {
        let mut random = spread();
        for _ in 0..100 {
            let down = Candidate { failed: true, ..candidate("down", 0, 100) };
            let all = vec![candidate("spare", 20, 1000), down, candidate("main", 10, 0)];
            assert_eq!(order(all, &mut random), ["main", "spare", "down"]);
        }
    }

    #[test]
    fn who_is_asked_first_is_spread_by_weight() {
        let mut random = spread();
        let mut first = std::collections::HashMap::new();
        for _ in 0..10_000 {
            let all = vec![candidate("one", 0, 1), candidate("three", 0, 3), candidate("none", 0, 0)];
            *first.entry(order(all, &mut random)[0]).or_insert(0) += 1;
        }
        let share = |at: &str| f64::from(*first.get(at).unwrap_or(&0)) / 10_000.0;
        assert!((0.22..0.28).contains(&share("one")) && (0.71..0.78).contains(&share("three")), "{first:?}");
        assert!((0.0001..0.01).contains(&share("none")), "seldom, and not never: {first:?}");
    }

    #[test]
    fn all_are_tried() {
        let all: Vec<_> = (0..10).map(|n| Candidate { at: n, priority: 0, weight: n, failed: n % 2 == 0 }).collect();
        let mut ordered = order(all, spread());
        assert!(ordered[..5].iter().all(|n| n % 2 == 1), "{ordered:?}");
        ordered.sort_unstable();
        assert_eq!(ordered, (0..10).collect::<Vec<_>>());
        assert!(order::<u8>(Vec::new(), || 0.0).is_empty());
    }
}
