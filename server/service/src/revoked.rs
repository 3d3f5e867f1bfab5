//! Task tokens that were revoked before their end, in memory: kept until they would be dead anyway.

use proto_types::Timestamp;
use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

/// How long past its end a revoked token is remembered, for a clock that is set back.
const KEPT: Duration = Duration::from_secs(300);

/// Revoked tokens by `jti`.
#[derive(Default)]
pub struct RevokedTokens {
    all: HashSet<String>,
    ends: BTreeSet<(Timestamp, String)>,
}

impl RevokedTokens {
    pub fn contains(&self, jti: &str) -> bool {
        self.all.contains(jti)
    }

    /// Takes one over, and forgets those whose end is long past at `now`.
    pub(crate) fn put(&mut self, jti: String, expires_at: Timestamp, now: Timestamp) {
        let past = now.minus(KEPT);
        while let Some((_, old)) = self.ends.first().filter(|(end, _)| *end < past).cloned() {
            self.ends.pop_first();
            self.all.remove(&old);
        }
        self.all.insert(jti.clone());
        self.ends.insert((expires_at, jti));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revoked_token_is_remembered_to_its_end_and_for_a_while_but_not_for_ever() {
        let at = Timestamp::from_secs;
        let mut revoked = RevokedTokens::default();
        revoked.put("one".into(), at(1_300), at(1_000));
        revoked.put("two".into(), at(1_900), at(1_600));
        assert!(revoked.contains("one") && revoked.contains("two") && !revoked.contains("three"));
        revoked.put("three".into(), at(1_901), at(1_601));
        assert!(!revoked.contains("one") && revoked.contains("two") && revoked.contains("three"));
        assert_eq!(revoked.ends.len(), 2);
    }
}
