//! The PostgreSQL store against the law of its ports; beside others on the same database; and against what operators,
//! crashes and backups do to a database.

use super::{
    options,
    wire::{Lost, Wire},
};
use futures_util::FutureExt as _;
use proto_types::{Clock, Entropy, Position, Record};
use server_core::{
    journal::{PrivateField, PrivateValue, admits, key_hash, redaction},
    ports::{
        Archive, Claim, Commit, CommitError, Duties as _, Feed, Filter, Guard, Ledger as _, ReadError, Snapshots, Write,
    },
};
use server_store::{
    CopyError, Files, OpenError, OpenOptions, PostgresConfig, PostgresError, PostgresStore, Progress, Store as _, copy,
};
use std::{sync::Arc, time::Duration};
use testkit::{
    fakes::{FakeClock, SeededEntropy},
    ledger_law::{
        Store, ledger_law,
        nouns::{T0, note, record},
    },
    poll,
    postgres::PostgresFixture,
};

const SOON: Duration = Duration::from_secs(15);

/// The store in the database of this name.
async fn config(pg: &PostgresFixture, name: &str) -> PostgresConfig {
    let files = Files { password: Some(pg.manager_password_file()), ..Files::default() };
    PostgresConfig::parse(&pg.store_url(name).await, files).unwrap()
}

async fn try_open(pg: &PostgresFixture, name: &str, options: OpenOptions) -> Result<Arc<PostgresStore>, PostgresError> {
    PostgresStore::open(config(pg, name).await, options).await
}

async fn open(pg: &PostgresFixture, name: &str) -> Arc<PostgresStore> {
    try_open(pg, name, options("example.org", false)).await.unwrap()
}

async fn journal(store: &PostgresStore, size: u64) -> Vec<Record> {
    let mut records = Vec::new();
    while (records.len() as u64) < size {
        let page = store.from(Position(records.len() as u64), 500).await.unwrap();
        assert!(!page.is_empty(), "the feed ends at {} of {size}", records.len());
        records.extend(page.into_iter().map(|(_, record)| (*record).clone()));
    }
    records
}

/// Waits until this store's followers know of so many records.
async fn knows(store: &PostgresStore, size: u64) {
    poll::until("the other's commits are seen", SOON, async || *store.size().borrow() >= size).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_keeps_the_law_of_the_ledger() {
    let pg = PostgresFixture::start().await;
    ledger_law(|name| async { Store::of(open(&pg, name).await) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_servers_write_one_journal_and_each_follows_all_of_it() {
    let pg = PostgresFixture::start().await;
    let stores = [open(&pg, "shared").await, open(&pg, "shared").await, open(&pg, "shared").await];
    assert_eq!(stores[0].meta().store_id, stores[1].meta().store_id);
    let writers: Vec<_> = (0..48)
        .map(|n| {
            let store = stores[n % 3].clone();
            tokio::spawn(async move {
                let mut given = Vec::new();
                let mut won = 0;
                for round in 0..10 {
                    given.push(store.commit(note()).await.unwrap().first().0);
                    // All of them want the same; of each round one gets it.
                    let claim = Claim { kind: "jti", key: vec![round], expires_at: T0.plus(SOON) };
                    match store.commit(note().when(Guard::Unclaimed(claim))).await {
                        Ok(durable) => {
                            given.push(durable.first().0);
                            won += 1;
                        }
                        Err(error) => assert!(matches!(error, CommitError::Lost(_)), "{error}"),
                    }
                }
                (given, won)
            })
        })
        .collect();
    let (mut given, mut won) = (Vec::new(), 0);
    for writer in writers {
        let (positions, claims) = writer.await.unwrap();
        given.extend(positions);
        won += claims;
    }
    given.sort_unstable();
    assert_eq!(won, 10, "a claim was taken more than once, or by nobody");
    assert_eq!(given, (0..490).collect::<Vec<u64>>(), "positions have gaps or were given twice");
    for store in &stores {
        knows(store, 490).await;
    }
    let first = journal(&stores[0], 490).await;
    for store in &stores[1..] {
        assert_eq!(journal(store, 490).await, first);
    }
    // One tree, whoever writes it down.
    let roots = [stores[0].write_root(None).await.unwrap(), stores[1].write_root(None).await.unwrap()];
    assert!(roots[0].is_some() && roots[0] == roots[1], "{roots:?}");
    assert_eq!(stores[2].roots(0, 10).await.unwrap(), Vec::from_iter(roots[0]));
    assert!(stores[2].inclusion(Position(7), 490).await.unwrap().is_some());
}

#[tokio::test]
async fn what_one_server_erased_another_does_not_tell_from_memory() {
    let pg = PostgresFixture::start().await;
    let (one, other) = (open(&pg, "erased").await, open(&pg, "erased").await);
    let record = Record::new(T0, "decision.made").user(Some("kim@example.org".into()));
    let position = one.commit(Commit::of(record)).await.unwrap().first();
    knows(&other, 1).await;
    assert_eq!(other.from(position, 1).await.unwrap()[0].1.user.as_deref(), Some("kim@example.org"));
    let value = PrivateValue { position, field: PrivateField::User };
    let unit = Commit::of(redaction(&[value], "asked to", None, T0)).put(Write::Redact(value));
    one.commit(unit).await.unwrap();
    knows(&other, 2).await;
    assert_eq!(other.from(position, 1).await.unwrap()[0].1.user, None);
    let by_name = Filter { user: Some("kim@example.org".into()), ..Filter::default() };
    assert!(other.search(&by_name, None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_this_servers_store_is_refused_and_left_as_it_is() {
    let pg = PostgresFixture::start().await;
    drop(open(&pg, "ours").await);
    let as_what = |td: &'static str, dev| try_open(&pg, "ours", options(td, dev));
    assert!(matches!(as_what("other.org", false).await.err(), Some(PostgresError::WrongTrustDomain { .. })));
    assert!(matches!(as_what("example.org", true).await.err(), Some(PostgresError::DevStamp { .. })));
    as_what("example.org", false).await.unwrap();

    pg.sql_on("ours", "ALTER DATABASE ours SET synchronous_commit = off").await;
    let off = as_what("example.org", false).await.err();
    assert!(matches!(off, Some(PostgresError::Asynchronous { .. })), "{off:?}");
    pg.sql_on("ours", "ALTER DATABASE ours RESET synchronous_commit").await;

    pg.sql_on("ours", "UPDATE errand.schema_version SET version = version + 1").await;
    let newer = as_what("example.org", false).await.err();
    assert!(matches!(newer, Some(PostgresError::NewerSchema { .. })), "{newer:?}");
    pg.sql_on("ours", "UPDATE errand.schema_version SET version = version - 2").await;
    let look = async |name: &str| try_open(&pg, name, options("example.org", false).as_it_is()).await.err();
    let older = look("ours").await;
    assert!(matches!(older, Some(PostgresError::OlderSchema { .. })), "{older:?}");
    pg.sql_on("ours", "UPDATE errand.schema_version SET version = version + 1").await;
    assert!(look("ours").await.is_none());
    for _ in 0..2 {
        let none = look("empty").await;
        assert!(matches!(none, Some(PostgresError::NoStore { .. })), "{none:?}: nothing is made");
    }

    let store = as_what("example.org", false).await.unwrap();
    store.commit(note()).await.unwrap();
    drop(store);
    pg.sql_on("ours", "UPDATE errand.journal SET body = body || '\\x20'").await;
    let changed = as_what("example.org", false).await.err();
    assert!(matches!(changed, Some(PostgresError::Damaged { .. })), "{changed:?}");
}

/// F17: the standby that took over did not have the newest commits.
#[tokio::test]
async fn a_database_that_lost_what_was_acknowledged_is_not_written_to_any_more() {
    let pg = PostgresFixture::start().await;
    let store = open(&pg, "lost").await;
    for _ in 0..3 {
        store.commit(note()).await.unwrap();
    }
    // The twin: connections that were cut, to a database that has everything.
    let cut =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'lost' AND pid <> pg_backend_pid()";
    pg.sql_on("lost", cut).await;
    let again = async || store.commit(note()).await.is_ok();
    poll::until("it goes on over a new connection", SOON, again).await;

    pg.sql_on("lost", "DELETE FROM errand.journal WHERE position >= 2; UPDATE errand.journal_head SET size = 2").await;
    pg.sql_on("lost", cut).await;
    let refused = async || store.commit(note()).await.is_err() && store.unusable().is_some();
    poll::until("nothing is written", SOON, refused).await;
    assert!(store.fails().await.contains("lost what was acknowledged"));
    let size: i64 = pg.ask_on("lost", "SELECT count(*) FROM errand.journal").await;
    assert_eq!(size, 2);
    // What is known is still told.
    let told: Result<_, ReadError> = store.from(Position(0), 10).await;
    assert!(told.is_ok());
}

/// Everything that a server holds and follows, as it stands in a store.
async fn whole<T: Feed + Snapshots + Archive>(store: &T) -> (String, Vec<Record>, String) {
    let size = *store.size().borrow();
    let mut records = Vec::new();
    while (records.len() as u64) < size {
        let page = store.from(Position(records.len() as u64), 500).await.unwrap();
        records.extend(page.into_iter().map(|(_, record)| (*record).clone()));
    }
    (
        format!("{:?}", store.load().await.unwrap()),
        records,
        format!("{:?} {:?}", store.meta(), store.root().await.unwrap()),
    )
}

#[tokio::test]
async fn a_store_moves_from_its_file_into_a_database_and_is_the_same_there() {
    let pg = PostgresFixture::start().await;
    let (_folder, path) = super::place();
    let file = super::open(&path);
    testkit::ledger_law::fill(&Store::of(file.clone())).await;
    for _ in 0..2_500 {
        file.commit(note()).await.unwrap();
    }
    file.write_root(None).await.unwrap();
    let before = whole(&*file).await;
    let moving = async |steps: usize| {
        let mut told = 0;
        let machine =
            || -> (Arc<dyn Entropy>, Arc<dyn Clock>) { (Arc::new(SeededEntropy::new(9)), Arc::new(FakeClock::at(T0))) };
        let mut progress = |_| {
            told += 1;
            assert!(told <= steps, "it is broken off");
        };
        copy(&path, config(&pg, "moved").await, machine(), &mut progress).await
    };
    // While a server runs on it nothing is copied.
    let busy = moving(usize::MAX).await;
    assert!(matches!(busy, Err(CopyError::File(_))), "{busy:?}");
    drop(file);

    // Broken off after some steps: nobody opens it, and the next copy goes on.
    let broken = std::panic::AssertUnwindSafe(moving(3)).catch_unwind().await;
    assert!(broken.is_err(), "it went through");
    let half = try_open(&pg, "moved", options("example.org", false)).await.err();
    assert!(matches!(half, Some(PostgresError::Copying { .. })), "{half:?}");
    let copied = moving(usize::MAX).await.unwrap();
    assert_eq!(copied.records, before.1.len() as u64);
    assert!(!path.exists() && copied.left_as.exists(), "the file is out of use");
    let anew = super::try_open(&path).err();
    assert!(matches!(anew, Some(OpenError::NotAStore { .. })), "nobody begins anew beside it: {anew:?}");

    let there = open(&pg, "moved").await;
    assert_eq!(whole(&*there).await, before);
    let by_kind = Filter { kind: Some("decision.made".into()), ..Filter::default() };
    assert_eq!(found(&there, &by_kind).await, read_through(&there, copied.records, &by_kind).await);
    let next: i64 = pg.ask_on("moved", "SELECT next FROM errand.journal_indexed").await;
    assert_eq!(u64::try_from(next), Ok(copied.records), "all of it is in the index");
    there.commit(note()).await.unwrap();
    let occupied = {
        std::fs::rename(&copied.left_as, &path).unwrap();
        moving(usize::MAX).await
    };
    assert!(matches!(occupied, Err(CopyError::Occupied { .. })), "{occupied:?}");
}

#[tokio::test]
async fn a_copy_that_was_changed_on_its_way_is_found_out() {
    let pg = PostgresFixture::start().await;
    let (_folder, path) = super::place();
    let file = super::open(&path);
    for _ in 0..5 {
        file.commit(note()).await.unwrap();
    }
    drop(file);
    let machine =
        || -> (Arc<dyn Entropy>, Arc<dyn Clock>) { (Arc::new(SeededEntropy::new(9)), Arc::new(FakeClock::at(T0))) };
    let mut stops = |p: Progress| assert!(p.table == "journal", "it is broken off behind the journal");
    let broken = copy(&path, config(&pg, "changed").await, machine(), &mut stops);
    assert!(std::panic::AssertUnwindSafe(broken).catch_unwind().await.is_err());
    pg.sql_on("changed", "UPDATE errand.journal SET body = body || '\\x20' WHERE position = 3").await;
    let found = copy(&path, config(&pg, "changed").await, machine(), &mut |_| {}).await;
    assert!(matches!(found, Err(CopyError::Differs { .. })), "{found:?}");
    assert!(path.exists());
}

/// F20, F21: whoever has a duty loses it with its session, and somebody has it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duty_is_one_servers_and_is_somebodys_again_when_its_session_ends() {
    let pg = PostgresFixture::start().await;
    let live = |seed| {
        OpenOptions::new("example.org", false, Arc::new(SeededEntropy::new(seed)), Arc::new(proto_types::SystemClock))
    };
    let one = try_open(&pg, "duties", live(1)).await.unwrap();
    let other = try_open(&pg, "duties", live(2)).await.unwrap();
    poll::until("the first that asks has it", SOON, async || one.holds("sink a")).await;
    assert!(!other.holds("sink a"));
    poll::until("another duty is another's", SOON, async || other.holds("sink b")).await;
    let exactly_one = async || [&one, &other].iter().filter(|s| s.holds("sink a")).count() == 1;

    // Cut off, as a firewall or the database itself does it.
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()";
    pg.sql_on("duties", cut).await;
    poll::until("it is somebody's again, and nobody else's", SOON, exactly_one).await;

    let (gone, left) = if one.holds("sink a") { (one, other) } else { (other, one) };
    drop(gone);
    poll::until("it passes on when a server ends", SOON, async || left.holds("sink a") && left.holds("sink b")).await;
}

/// F20: each server has as much of what is to be ended as any other, and a dead one's share goes to those that are left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn divided_work_is_spread_evenly_over_the_servers_that_are_up() {
    const OF: u32 = 16;
    let pg = PostgresFixture::start().await;
    let clock = Arc::new(FakeClock::at(T0));
    let live = |seed| OpenOptions::new("example.org", false, Arc::new(SeededEntropy::new(seed)), clock.clone());
    let of = |store: &PostgresStore| (0..OF).filter(|part| store.holds_part("leases", *part, OF)).collect::<Vec<_>>();
    let shares = async |what: &str, stores: &[&PostgresStore], wanted: &[usize]| {
        poll::until(what, SOON, async || {
            clock.advance(Duration::from_millis(500));
            let held: Vec<_> = stores.iter().map(|store| of(store)).collect();
            let mut counts: Vec<_> = held.iter().map(Vec::len).collect();
            let mut all = held.concat();
            all.sort_unstable();
            counts.sort_unstable();
            counts == wanted && all == (0..OF).collect::<Vec<_>>()
        })
        .await;
    };
    let one = try_open(&pg, "divided", live(1)).await.unwrap();
    shares("who is alone does everything", &[&one], &[16]).await;
    let other = try_open(&pg, "divided", live(2)).await.unwrap();
    shares("two do half each", &[&one, &other], &[8, 8]).await;
    let third = try_open(&pg, "divided", live(3)).await.unwrap();
    shares("three do a third each", &[&one, &other, &third], &[4, 6, 6]).await;
    drop(one);
    shares("two are left with half each", &[&other, &third], &[8, 8]).await;
    drop(other);
    shares("and the last with everything", &[&third], &[16]).await;
}

/// F18: the answer to a commit is lost. What became of it is found out, and said as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_answered_as_it_went() {
    let pg = PostgresFixture::start().await;
    // Units that change nothing are one statement, which announces itself; the others are a transaction.
    answered_as_it_went(&pg, "plain", b"errand_journal", |_| note()).await;
    let revoked = |n| note().put(Write::RevokedToken { jti: format!("token {n}"), expires_at: T0 });
    answered_as_it_went(&pg, "writing", b"COMMIT\0", revoked).await;
}

async fn answered_as_it_went(pg: &PostgresFixture, name: &str, commits: &'static [u8], unit: impl Fn(u32) -> Commit) {
    pg.store_url(name).await;
    let wire = Wire::to(pg.port(), commits).await;
    let files = Files { password: Some(pg.manager_password_file()), ..Files::default() };
    let place = PostgresConfig::parse(&format!("postgres://errand@127.0.0.1:{}/{name}", wire.port), files).unwrap();
    let store = PostgresStore::open(place, options("example.org", false)).await.unwrap();
    // A journal in which there is no time yet has nothing to judge a clock by.
    store.commit(note()).await.unwrap();
    let (mut expected, mut sent) = (1, 0);
    for round in 0..8 {
        let lost = [Lost::Nowhere, Lost::Answering, Lost::Asking, Lost::Late][round % 4];
        wire.loses(lost);
        // Several in one group: each is answered.
        let units = (0..4).map(|_| {
            sent += 1;
            store.commit(unit(sent))
        });
        let answers = futures_util::future::join_all(units.collect::<Vec<_>>()).await;
        assert!(wire.lost(), "nothing was lost in round {round}");
        for answer in answers {
            match answer {
                Ok(durable) => {
                    assert_eq!(durable.first().0, expected, "round {round}");
                    expected += 1;
                }
                Err(error) => {
                    let unwritten = matches!(lost, Lost::Asking | Lost::Late);
                    assert!(unwritten && matches!(error, CommitError::Unavailable(_)), "{lost:?}: {error}");
                }
            }
        }
        if lost == Lost::Late {
            wire.arrives().await;
        }
        let size: i64 = pg.ask_on(name, "SELECT count(*) FROM errand.journal").await;
        assert_eq!(size, i64::try_from(expected).unwrap(), "what was said is not what is there, {lost:?}");
    }
    assert!(expected >= 17, "{expected}");
    assert_eq!(journal(&store, expected).await.len() as u64, expected);
}

/// What is asked for, found by reading everything; newest first.
async fn read_through(store: &PostgresStore, size: u64, filter: &Filter) -> Vec<u64> {
    let all = journal(store, size).await;
    let asked = all.iter().enumerate().filter(|(_, record)| admits(filter, record)).map(|(n, _)| n as u64);
    asked.rev().collect()
}

async fn found(store: &PostgresStore, filter: &Filter) -> Vec<u64> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = store.search(filter, before, 700).await.unwrap();
        let Some((last, _)) = page.last() else { return all };
        before = Some(*last);
        all.extend(page.iter().map(|(position, _)| position.0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_found_whether_the_index_has_them_or_not_and_another_server_goes_on_with_it() {
    let pg = PostgresFixture::start().await;
    let live = |seed| {
        OpenOptions::new("example.org", false, Arc::new(SeededEntropy::new(seed)), Arc::new(proto_types::SystemClock))
    };
    let one = try_open(&pg, "found", live(1)).await.unwrap();
    let other = try_open(&pg, "found", live(2)).await.unwrap();
    let write = async |store: &PostgresStore, count: u64| {
        let units = (0..count).map(|n| {
            let of = record(["decision.made", "hold.created"][usize::from(n % 7 == 0)]);
            store.commit(Commit::of(
                of.workload(format!("spiffe://example.org/w{}", n % 3)).user(Some(format!("u{}", n % 5))),
            ))
        });
        futures_util::future::join_all(units.collect::<Vec<_>>())
            .await
            .into_iter()
            .for_each(|done| drop(done.unwrap()));
    };
    let next = async || pg.ask_on::<i64>("found", "SELECT next FROM errand.journal_indexed").await;
    let by = |change: fn(&mut Filter)| {
        let mut filter = Filter::default();
        change(&mut filter);
        filter
    };
    let filters = [
        by(|_| {}),
        by(|f| f.kind = Some("hold.created".into())),
        by(|f| (f.kind, f.workload) = (Some("hold.created".into()), Some("spiffe://example.org/w1".into()))),
        by(|f| (f.workload, f.user) = (Some("spiffe://example.org/w2".into()), Some("u4".into()))),
        by(|f| f.workload = Some("spiffe://example.org/nobody".into())),
    ];
    let same = async |store: &PostgresStore, size: u64| {
        for filter in &filters {
            let expected = read_through(store, size, filter).await;
            assert_eq!(found(store, filter).await, expected, "{filter:?} of {size}");
        }
    };
    write(&one, 900).await;
    knows(&other, 900).await;
    assert_eq!(next().await, 0, "less than a step");
    same(&one, 900).await;
    same(&other, 900).await;

    write(&one, 1_600).await;
    knows(&other, 2_500).await;
    poll::until("two steps are in the index", SOON, async || next().await == 2_048).await;
    let beyond: i64 = pg.ask_on("found", "SELECT count(*) FROM errand.journal_found WHERE position >= 2048").await;
    assert_eq!(beyond, 0);
    same(&one, 2_500).await;
    same(&other, 2_500).await;

    // Whichever did it until now, the other goes on.
    drop(one);
    write(&other, 1_000).await;
    poll::until("the third step is taken by who is left", SOON, async || next().await == 3_072).await;
    same(&other, 3_500).await;
    // Another key with the same eight bytes is not what was asked for.
    let stranger = key_hash("workload:spiffe://example.org/nobody");
    pg.sql_on("found", &format!("INSERT INTO errand.journal_found VALUES({stranger}, 7)")).await;
    same(&other, 3_500).await;
}

/// F32: whoever migrates is killed at each of its statements.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_is_killed_at_any_statement_leaves_nothing_and_the_next_server_makes_it_whole() {
    let pg = PostgresFixture::start().await;
    pg.store_url("upgraded").await;
    // The database itself ends the session behind the statement whose turn it is.
    pg.sql_on(
        "upgraded",
        "CREATE SEQUENCE public.done;
         CREATE FUNCTION public.die() RETURNS event_trigger SECURITY DEFINER LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('public.done') = current_setting('test.dies_behind')::bigint THEN
                 PERFORM pg_terminate_backend(pg_backend_pid());
             END IF;
         END $$;
         CREATE EVENT TRIGGER dies ON ddl_command_end EXECUTE FUNCTION public.die();",
    )
    .await;
    let dies_behind = async |n: u32| {
        let sql =
            format!("ALTER DATABASE upgraded SET test.dies_behind = '{n}'; SELECT setval('public.done', 1, false)");
        pg.sql_on("upgraded", &sql).await;
    };
    let migrate = async || try_open(&pg, "upgraded", options("example.org", false)).await;
    let mut statements = 0;
    loop {
        statements += 1;
        dies_behind(statements).await;
        let made = migrate().await;
        // Statements of the second migration come behind those of the first, which stays, and so on.
        let version: Option<i64> = match pg.ask_on("upgraded", "SELECT to_regclass('errand.meta') IS NOT NULL").await {
            true => Some(pg.ask_on("upgraded", "SELECT version FROM errand.schema_version").await),
            false => None,
        };
        match made {
            Ok(store) => {
                store.commit(note()).await.unwrap();
                break;
            }
            Err(error) => {
                assert!(matches!(error, PostgresError::Refused { .. }), "{error}");
                assert!(version.is_none_or(|v| (1..3).contains(&v)), "behind statement {statements}: {version:?}");
            }
        }
        if version.is_some() {
            // Back to nothing, so that the count goes on.
            let whole: bool = pg.ask_on("upgraded", "SELECT count(*) = 1 FROM errand.journal_head").await;
            assert!(whole);
            pg.sql_on("upgraded", "DROP SCHEMA errand CASCADE").await;
        }
    }
    assert!(statements > 20, "{statements}");

    // A store of the first version, with what a server of then put into it; and two servers of the new one at once.
    dies_behind(1).await;
    pg.sql_on(
        "upgraded",
        "ALTER EVENT TRIGGER dies DISABLE;
         ALTER TABLE errand.meta DROP COLUMN cluster;
         DROP TABLE errand.journal_found, errand.journal_indexed;
         INSERT INTO errand.journal_key VALUES('kind:decision.made', 0);
         UPDATE errand.schema_version SET version = 1;
         ALTER EVENT TRIGGER dies ENABLE",
    )
    .await;
    pg.sql_on("upgraded", "SELECT setval('public.done', 1, false)").await;
    assert!(migrate().await.is_err());
    assert_eq!(pg.ask_on::<i64>("upgraded", "SELECT version FROM errand.schema_version").await, 1);
    dies_behind(0).await;
    let (one, other) = tokio::join!(migrate(), migrate());
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(journal(&other, 1).await.len(), 1, "what was there is there");
    let by_kind = Filter { kind: Some("decision.made".into()), ..Filter::default() };
    assert_eq!(found(&other, &by_kind).await, [0], "and found");
    assert_eq!(pg.ask_on::<i64>("upgraded", "SELECT next FROM errand.journal_indexed").await, 1);
    one.commit(note()).await.unwrap();
}
