//! The journal as it is exported: whole, selected, and in the formats of others.

use crate::world::{NOW, World};
use proto_types::{Record, TaskId};
use serde_json::Value;
use server_core::{
    journal::{Trust, Verdict, export_line, parse_line, verify_export},
    ports::Commit,
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// The status and the body of one GET on the admin socket.
pub async fn get(world: &World, path: &str) -> (u16, String) {
    // Of the older version, in which a body has no framing of its own.
    ask(world, &format!("GET {path} HTTP/1.0\r\nhost: errand\r\n\r\n")).await
}

/// The status and the document that one POST of a document answers.
pub async fn post(world: &World, path: &str, asked: &Value) -> (u16, Value) {
    let body = asked.to_string();
    let head = format!("POST {path} HTTP/1.0\r\nhost: errand\r\ncontent-type: application/json");
    let (status, answer) = ask(world, &format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
    (status, serde_json::from_str(&answer).unwrap())
}

/// The same of a form.
pub async fn post_form(world: &World, path: &str, form: &str) -> (u16, Value) {
    let head = format!("POST {path} HTTP/1.0\r\nhost: errand\r\ncontent-type: application/x-www-form-urlencoded");
    let (status, answer) = ask(world, &format!("{head}\r\ncontent-length: {}\r\n\r\n{form}", form.len())).await;
    (status, serde_json::from_str(&answer).unwrap())
}

async fn ask(world: &World, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(&world.server.addresses.admin_socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_string())
}

pub async fn export(world: &World, query: &str) -> Vec<String> {
    let (status, body) = get(world, &format!("/v1/journal/export?{query}")).await;
    assert_eq!(status, 200, "{query}: {body}");
    body.lines().map(String::from).collect()
}

/// Belief in the key that the server says is the journal's.
pub async fn trust(world: &World) -> Trust {
    let answer: Value = serde_json::from_str(&get(world, "/v1/journal/checkpoint").await.1).unwrap();
    Trust { key: Some(answer["key"].as_str().unwrap().parse().unwrap()), ..Trust::default() }
}

const TASK: &str = "018f2f0c-8f6b-7c3e-8a52-0123456789ab";

/// Three records that differ in everything a filter asks for; answers their positions' begin.
async fn three(world: &World) -> u64 {
    let begin = world.records();
    let task: TaskId = TASK.parse().unwrap();
    let at = |minutes: u64| NOW.plus(Duration::from_secs(60 * minutes));
    let mut records = [
        Record::new(at(1), "lease.handed").intent("one|two=three\nfour"),
        Record::new(at(2), "decision.made"),
        Record::new(at(3), "lease.handed"),
    ];
    records[0].workload = Some("spiffe://example.org/planner".into());
    (records[1].user, records[1].task_id) = (Some("kim@example.org".into()), Some(task));
    records[2].target = Some("orders-db".into());
    world.clock.advance(Duration::from_secs(600));
    for record in records {
        world.server.service.ports().ledger.commit(Commit::of(record)).await.unwrap();
    }
    begin
}

#[tokio::test]
async fn a_selection_holds_what_each_filter_admits_and_proves_each_of_them() {
    let world = World::start().await;
    let begin = three(&world).await;
    let whole = export(&world, "").await;
    let trust = trust(&world).await;
    assert!(matches!(verify_export(&whole, &trust), Ok(Verdict::Ok { .. })));
    for (query, expected) in [
        ("workload=spiffe://example.org/planner", &[0][..]),
        ("user=kim@example.org", &[1]),
        (&format!("task={TASK}"), &[1]),
        ("target=orders-db", &[2]),
        ("kind=lease.handed", &[0, 2]),
        ("kind=lease.handed&target=orders-db", &[2]),
        ("kind=decision.made&target=orders-db", &[]),
        ("from=2026-11-18T11:08:40Z", &[1, 2]),
        ("from=2026-11-18T11:07:00Z&to=2026-11-18T11:08:41Z", &[0, 1]),
    ] {
        let lines = export(&world, query).await;
        let header: Value = serde_json::from_str(&lines[0]).unwrap();
        assert!(header["note"].as_str().unwrap().contains("completeness is not claimed"), "{header}");
        let positions: Vec<_> = lines[1..].iter().map(|l| parse_line(l).unwrap().0.position.0).collect();
        assert_eq!(positions, expected.iter().map(|n| begin + n).collect::<Vec<u64>>(), "{query}");
        let stored = |line: &String| export_line(&parse_line(line).unwrap().0, None);
        assert!(lines[1..].iter().all(|line| whole.contains(&stored(line))), "{query}: the stored bytes themselves");
        let (verdict, count) = (verify_export(&lines, &trust), expected.len() as u64);
        assert!(matches!(verdict, Ok(Verdict::Included { records, .. }) if records == count), "{query}: {verdict:?}");
        let forged: Vec<_> = lines.iter().map(|line| line.replace("\"position\":", "\"position\":1")).collect();
        assert!(expected.is_empty() || matches!(verify_export(&forged, &trust), Ok(Verdict::Bad { .. })), "{query}");
    }
}

#[tokio::test]
async fn the_formats_of_others_have_a_line_for_every_record_and_take_the_same_filters() {
    let world = World::start().await;
    let begin = three(&world).await;
    let whole = export(&world, "format=jsonl").await;
    for format in ["ocsf", "cef"] {
        assert_eq!(export(&world, &format!("format={format}")).await.len(), whole.len() - 1, "{format}: no header");
    }
    let ocsf = export(&world, "format=ocsf&user=kim@example.org").await;
    let event: Value = serde_json::from_str(&ocsf[0]).unwrap();
    assert_eq!((ocsf.len(), &event["metadata"]["sequence"]), (1, &Value::from(begin + 1)));
    let stored: Value = serde_json::from_str(&whole[usize::try_from(begin).unwrap() + 2]).unwrap();
    assert_eq!(event["unmapped"]["leaf"], stored["leaf"]);
    let cef = export(&world, "format=cef&workload=spiffe://example.org/planner").await;
    assert_eq!(cef.len(), 1);
    assert!(cef[0].starts_with("CEF:0|Errand|errand|") && cef[0].contains(r"cs2=one|two\=three\nfour"), "{}", cef[0]);
}

#[tokio::test]
async fn a_format_or_a_filter_that_means_nothing_is_refused() {
    let world = World::start().await;
    three(&world).await;
    for bad in ["format=xml", "format=json", "format=", "task=7", "from=yesterday", "limit=5", "node=x", "formt=ocsf"] {
        assert_eq!(get(&world, &format!("/v1/journal/export?{bad}")).await.0, 400, "{bad}");
    }
    for good in ["format=ocsf", "format=cef", "format=jsonl", "from=2026-11-18T11:08:40Z"] {
        assert_eq!(get(&world, &format!("/v1/journal/export?{good}")).await.0, 200, "{good}");
    }
}
