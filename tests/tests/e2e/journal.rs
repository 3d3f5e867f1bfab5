//! The record: it says who, it cannot be changed in silence, and an export proves itself without a server.

use rusqlite::Connection;
use tests::world::{Exchange, World};

const READONLY: &str = "orders-db/readonly";

/// Architecture, section 4: one record answers who.
#[tokio::test]
async fn who_leads_from_a_role_s_name_to_task_workload_and_intent() {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;
    let task = world.holds_task("close the books", &[READONLY]).await;
    Exchange::of(&task).to(READONLY).send(&world).await.granted();
    let role = orders.role().await;

    for moment in ["while it is alive", "when it is over"] {
        let told = world.errand(["who", &role]).to_end().await.exited(0).stdout;
        for word in [&task.id, &world.workload("planner"), "close the books", READONLY] {
            assert!(told.contains(word), "{moment}: `{word}` is not in:\n{told}");
        }
        let answer = world.operator(["who", &role]).await;
        assert_eq!(answer["task"]["id"], task.id.as_str(), "{moment}: {answer}");
        if moment.starts_with("while") {
            task.completes().await;
            orders.is_left_alone().await;
        }
    }
    // By the serial of a certificate, too; and a name that is nobody's is nobody.
    let minted = world.journal("svid.minted").await;
    let serial = minted[0]["credential"]["id"].as_str().unwrap();
    assert_eq!(world.operator(["who", serial]).await["records"][0]["credential"]["id"], serial);
    let nobody = format!("{}aaaaaaaaaaaaaaaa", &role[..role.len() - 16]);
    world.errand(["who", &nobody]).to_end().await.exited(1);
    world.ends_well().await;
}

/// Architecture, section 4: tamper-evident.
#[tokio::test]
async fn an_export_verifies_without_a_server_and_one_changed_byte_is_named_by_its_position() {
    let mut world = World::of_processes().await;
    world.permits_everything().await;
    world.holds_task("leave a trace", &[]).await.completes().await;
    let export = world.errand(["journal", "export"]).to_end().await.exited(0).stdout;
    let file = world.layout.write("export.jsonl", &export);
    let offline = ["journal", "verify", "--file", &file];
    let nowhere = "/nonexistent/server.sock";
    let good = world.errand(offline).env("ERRAND_SERVER_SOCKET", nowhere).to_end().await.exited(0);
    assert_eq!(good.stdout, world.errand(["journal", "verify"]).to_end().await.exited(0).stdout, "the same root");

    // In the file: another word in the fourth record, and a record left out.
    let lines: Vec<&str> = export.lines().collect();
    let cut: Vec<&str> = lines.iter().enumerate().filter(|(n, _)| *n != 4).map(|(_, l)| *l).collect();
    let short = world.layout.write("short.jsonl", &(cut.join("\n") + "\n"));
    let verdict = world.errand(["journal", "verify", "--file", &short]).to_end().await.exited(1);
    assert!(format!("{}{}", verdict.stdout, verdict.stderr).contains('3'), "position 3 is missing: {verdict:?}");

    // In the store, behind the server's back.
    world.server.pause().await;
    let store = Connection::open(world.layout.store()).unwrap();
    let body: Vec<u8> = store.query_row("SELECT body FROM journal WHERE position = 3", [], |r| r.get(0)).unwrap();
    let mut changed = body.clone();
    let at = changed.iter().rposition(u8::is_ascii_digit).unwrap();
    changed[at] = if changed[at] == b'7' { b'8' } else { b'7' };
    store.execute("UPDATE journal SET body = ?1 WHERE position = 3", [&changed]).unwrap();
    drop(store);
    world.server.start_again().await;
    let verdict = world.errand(["journal", "verify"]).to_end().await.exited(1);
    let said = format!("{}{}", verdict.stdout, verdict.stderr);
    assert!(said.contains("position 3"), "{said}");
    let export = world.errand(["journal", "export"]).to_end().await.exited(0).stdout;
    let file = world.layout.write("tampered.jsonl", &export);
    let verdict = world.errand(["journal", "verify", "--file", &file]).to_end().await.exited(1);
    assert!(format!("{}{}", verdict.stdout, verdict.stderr).contains("position 3"), "{verdict:?}");
}

/// Architecture, section 4: erasable where law asks for it.
#[tokio::test]
async fn what_was_redacted_is_in_no_answer_nor_in_the_file_and_the_journal_still_verifies() {
    let mut world = World::of_processes().await;
    world.permits_everything().await;
    let words = "mend the report of somebody's illness";
    let task = world.holds_task(words, &[]).await;
    let by_task = ["journal", "redact", "--task", &task.id, "--reason", "request 4711"];
    // Nobody is there to be asked; and while the task runs, its intent is in use.
    world.errand(by_task).to_end().await.exited(2);
    let held = world.errand(by_task).args(["--yes"]).to_end().await.exited(1);
    assert!(held.stderr.contains("not over"), "{}", held.stderr);
    let id = task.id.clone();
    task.completes().await;
    let by_task = ["journal", "redact", "--task", &id, "--reason", "request 4711"];
    assert!(world.errand(["task", "show", &id]).to_end().await.exited(0).stdout.contains(words));
    let done = world.operator([&by_task[..], &["--yes"]].concat()).await;
    assert!(!done["redacted"].as_array().unwrap().is_empty(), "{done}");

    for asked in [&["task", "show", &id][..], &["journal", "search", "--task", &id, "--all"], &["journal", "export"]] {
        let told = world.errand(asked.iter().copied()).to_end().await.exited(0).stdout;
        assert!(!told.contains(words), "{asked:?}: {told}");
    }
    world.errand(["journal", "verify"]).to_end().await.exited(0);
    // Once more: there is nothing left to erase.
    world.errand(by_task).args(["--yes"]).to_end().await.exited(1);
    world.server.pause().await;
    let file = std::fs::read(world.layout.store()).unwrap();
    assert!(!file.windows(words.len()).any(|w| w == words.as_bytes()), "the words are still on the disk");
}
