//! What is counted, for Prometheus: `errand_<subsystem>_<what>_<unit>`. No label holds an identity or a secret.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use server_service::Service;
use std::sync::Mutex;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkName {
    sink: String,
}

/// The server's own registry: several servers in one process do not share one.
pub struct Metrics {
    registry: Mutex<Registry>,
    issued: Family<Kind, Counter>,
    tasks: Counter,
    exchanges: Family<Kind, Counter>,
    refused: Counter,
    leases: Family<State, Gauge>,
    entries: Gauge,
    nodes: Gauge,
    live_tasks: Gauge,
    sink_behind: Family<SinkName, Gauge>,
    sink_failing: Family<SinkName, Gauge>,
    reloads: Family<Kind, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("errand");
        let (issued, exchanges) = (Family::<Kind, Counter>::default(), Family::<Kind, Counter>::default());
        let (tasks, refused) = (Counter::default(), Counter::default());
        let leases = Family::<State, Gauge>::default();
        let (entries, nodes, live_tasks) = (Gauge::default(), Gauge::default(), Gauge::default());
        let (sink_behind, sink_failing) = (Family::<SinkName, Gauge>::default(), Family::<SinkName, Gauge>::default());
        registry.register("journal_sink_behind", "Records a sink has not taken yet", sink_behind.clone());
        registry.register("journal_sink_failing", "1 while a sink does not take records", sink_failing.clone());
        let reloads = Family::<Kind, Counter>::default();
        registry.register("config_reloads", "Times the configuration was read again, by outcome", reloads.clone());
        registry.register("issue_svids", "SVIDs released, by kind", issued.clone());
        registry.register("task_started", "Tasks started", tasks.clone());
        registry.register("exchange_answers", "Token exchanges answered, by outcome", exchanges.clone());
        registry.register("http_unauthenticated", "Requests refused before their caller was known", refused.clone());
        registry.register("lease_open", "Leases that are not over, by state", leases.clone());
        registry.register("entry_count", "Registration entries", entries.clone());
        registry.register("node_count", "Attested nodes", nodes.clone());
        registry.register("task_live", "Tasks that have not ended", live_tasks.clone());
        Self {
            registry: Mutex::new(registry),
            issued,
            tasks,
            exchanges,
            refused,
            leases,
            entries,
            nodes,
            live_tasks,
            sink_behind,
            sink_failing,
            reloads,
        }
    }
}

impl Metrics {
    pub(crate) fn issued(&self, kind: &str) {
        self.issued.get_or_create(&Kind { kind: kind.into() }).inc();
    }
    pub(crate) fn task_started(&self) {
        self.tasks.inc();
    }
    pub(crate) fn exchanged(&self, outcome: &str) {
        self.exchanges.get_or_create(&Kind { kind: outcome.into() }).inc();
    }
    /// The configuration was read again, and taken or not.
    pub fn reloaded(&self, taken: bool) {
        let kind = if taken { "taken" } else { "refused" };
        self.reloads.get_or_create(&Kind { kind: kind.into() }).inc();
    }
    pub(crate) fn unauthenticated(&self) {
        self.refused.inc();
    }

    /// The text exposition, with gauges read from the state now.
    pub(crate) fn text(&self, service: &Service) -> String {
        use proto_types::LeaseState as L;
        service.read(|s| {
            self.entries.set(s.entries.len() as i64);
            self.nodes.set(s.nodes.len() as i64);
            self.live_tasks.set(s.tasks.len() as i64);
            for state in [L::Intended, L::Handed, L::Revoking, L::Lingering] {
                let n = s.leases.values().filter(|l| l.state == state).count();
                self.leases.get_or_create(&State { state: state.as_str() }).set(n as i64);
            }
        });
        for view in service.sink_views() {
            let sink = SinkName { sink: view.name };
            self.sink_behind.get_or_create(&sink).set(i64::try_from(view.behind).unwrap_or(i64::MAX));
            self.sink_failing.get_or_create(&sink).set(i64::from(view.failing_since.is_some()));
        }
        let mut out = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Writing into a String cannot fail.
        let _ = encode(&mut out, &registry);
        out
    }
}
