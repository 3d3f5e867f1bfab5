use super::open;
use server_core::ports::{Commit, Guard, Ledger, Write};
use testkit::ledger_law::nouns::*;
use proto_types::Epoch;
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods)]
async fn measure() {
    let dir = tempfile::tempdir_in("/work/target").unwrap();
    let store = open(&dir.path().join("x.db"));
    store.commit(note().put(Write::Task(task(1)))).await.unwrap();
    for (what, callers, per) in [("note", 1u64, 500u64), ("note", 64, 300), ("note", 256, 100), ("svid", 64, 200), ("svid", 256, 100), ("lease", 64, 200), ("lease", 256, 60)] {
        let t = std::time::Instant::now();
        let mut js = vec![];
        for c in 0..callers {
            let store = store.clone();
            js.push(tokio::spawn(async move {
                for n in 0..per {
                    let unit = match what {
                        "note" => note(),
                        "svid" => Commit::of(record("svid.minted").workload("spiffe://example.org/agents/planner").node("spiffe://example.org/spire/agent/x").credential("x509", format!("{c:x}-{n:x}"))),
                        _ => { let id = { static N: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(10); N.fetch_add(1, std::sync::atomic::Ordering::Relaxed) }; Commit::of(record("lease.intended").workload("spiffe://example.org/agents/planner").task(task_id(1)).target("orders-db").intent("x y z").user(Some("kim@example.org".into())).credential("postgres", lease_id(id))).when(Guard::TaskLive(task_id(1), Epoch(1))).put(Write::Lease(lease(id, 1))) }
                    };
                    store.commit(unit).await.unwrap();
                }
            }));
        }
        for j in js { j.await.unwrap(); }
        let s = t.elapsed().as_secs_f64();
        eprintln!("{what} callers={callers}: {:.0} units/s", (callers * per) as f64 / s);
    }
    let t = std::time::Instant::now();
    for n in 0..5000u64 { let id = n; std::hint::black_box(Commit::of(record("lease.intended").workload("spiffe://example.org/agents/planner").task(task_id(1)).target("orders-db").intent("x y z").user(Some("kim@example.org".into())).credential("postgres", lease_id(id))).when(Guard::TaskLive(task_id(1), Epoch(1))).put(Write::Lease(lease(id, 1)))); }
    eprintln!("build lease unit encode {:.1} us", t.elapsed().as_secs_f64() * 1e6 / 5000.0);
    let l = lease(1, 1);
    let t = std::time::Instant::now();
    for _ in 0..5000u64 { std::hint::black_box(serde_json::to_string(&l).unwrap()); }
    eprintln!("json lease encode {:.1} us", t.elapsed().as_secs_f64() * 1e6 / 5000.0);
    let t = std::time::Instant::now();
    let e = testkit::fakes::SeededEntropy::new(1);
    let r = record("lease.intended").workload("spiffe://example.org/agents/planner").task(task_id(1)).target("orders-db").intent("x y z").user(Some("kim@example.org".into())).credential("postgres", lease_id(1));
    for _ in 0..5000 { server_core::journal::encode(&r, &e).unwrap(); }
    eprintln!("encode {:.1} us", t.elapsed().as_secs_f64() * 1e6 / 5000.0);
    let t = std::time::Instant::now();
    let root = store.write_root().await.unwrap();
    eprintln!("write_root {:?} in {:?}", root.map(|r| r.size), t.elapsed());
    let t = std::time::Instant::now();
    drop(store);
    eprintln!("close {:?}", t.elapsed());
    let t = std::time::Instant::now();
    open(&dir.path().join("x.db"));
    eprintln!("open {:?}", t.elapsed());
}
