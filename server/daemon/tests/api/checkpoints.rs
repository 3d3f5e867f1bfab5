//! What the journal says of itself over the admin socket: checkpoints, proofs, and what witnesses add.

use crate::{
    exports::{export, get, post, trust},
    world::World,
};
use proto_types::Record;
use serde_json::{Value, json};
use server_core::{
    journal::{
        Checkpoint, Hash, SignedNote, Trust, Verdict, VerifierKey, parse_line, verify_consistency, verify_export,
        verify_inclusion,
    },
    ports::{Commit, JournalSigner, TreeRoot},
};
use testkit::signers::TestLog;

async fn grow(world: &World, count: u64) {
    for _ in 0..count {
        let record = Record::new(world.server.service.now(), "access.denied");
        world.server.service.ports().ledger.commit(Commit::of(record)).await.unwrap();
    }
}

async fn document(world: &World, path: &str) -> Value {
    let (status, body) = get(world, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

async fn newest(world: &World) -> (SignedNote, Checkpoint) {
    let answer = document(world, "/v1/journal/checkpoint").await;
    let (note, key): (SignedNote, VerifierKey) =
        (answer["checkpoint"].as_str().unwrap().parse().unwrap(), answer["key"].as_str().unwrap().parse().unwrap());
    let checkpoint = note.verify(&key).unwrap().checkpoint().clone();
    (note, checkpoint)
}

fn path(answer: &Value) -> Vec<Hash> {
    let hash = |text: &Value| hex::decode(text.as_str().unwrap()).unwrap().try_into().unwrap();
    answer["path"].as_array().unwrap().iter().map(hash).collect()
}

#[tokio::test]
async fn a_checkpoint_is_over_everything_and_proofs_lead_to_it_from_older_ones_and_from_records() {
    let world = World::start().await;
    let (_, old) = newest(&world).await;
    grow(&world, 7).await;
    let (note, new) = newest(&world).await;
    assert_eq!((new.size, new.size - old.size), (world.records(), 7));
    assert!(new.origin.starts_with("errand.journal/example.org/"), "{}", new.origin);
    let proof = document(&world, &format!("/v1/journal/consistency?from={}&to={}", old.size, new.size)).await;
    assert!(verify_consistency(old.size, &old.root, new.size, &new.root, &path(&proof)));
    assert!(!verify_consistency(old.size, &new.root, new.size, &new.root, &path(&proof)));
    let (record, _) = parse_line(&export(&world, "").await[3]).unwrap();
    let proof = document(&world, &format!("/v1/journal/2/inclusion?size={}", new.size)).await;
    assert!(verify_inclusion(&record.leaf, 2, new.size, &path(&proof), &new.root));
    let stored = document(&world, &format!("/v1/journal/checkpoints?after={}", old.size)).await;
    let stored = stored["checkpoints"].as_array().unwrap().clone();
    assert_eq!(stored.last().unwrap().as_str(), Some(note.to_string().as_str()));
    for bad in [
        format!("/v1/journal/consistency?from={}&to={}", new.size + 2, new.size + 1),
        format!("/v1/journal/{}/inclusion?size={}", new.size, new.size),
        format!("/v1/journal/0/inclusion?size={}", new.size + 1),
    ] {
        assert_eq!(get(&world, &bad).await.0, 404, "{bad}");
    }
}

#[tokio::test]
async fn a_witness_is_kept_and_exports_continue_what_it_signed() {
    let world = World::start().await;
    let (witness, key) = (TestLog::witness(), trust(&world).await.key);
    let asked = Trust { key: key.clone(), witness: Some(witness.verifier().clone()), ..Trust::default() };
    assert!(verify_export(export(&world, "").await, &asked).is_err(), "nobody has signed yet");
    let (note, checkpoint) = newest(&world).await;
    let cosigned = witness.cosign(&note, 1_795_000_000);
    let to = "/v1/journal/checkpoint/cosignatures";
    let (status, answer) = post(&world, to, &json!({ "checkpoint": cosigned.to_string() })).await;
    assert_eq!((status, answer["checkpoint"].as_str()), (200, Some(cosigned.to_string().as_str())));
    grow(&world, 5).await;
    for query in ["", "kind=access.denied"] {
        let lines = export(&world, query).await;
        let verdict = verify_export(&lines, &asked).unwrap();
        assert!(matches!(verdict, Verdict::Ok { .. } | Verdict::Included { records: 5, .. }), "{query}: {verdict:?}");
    }
    // Another tree of the same size, and a note that another key signed, are not this journal's.
    let root = TreeRoot { size: checkpoint.size, root: [7; 32] };
    for foreign in
        [witness.cosign(&TestLog::journal().checkpoint(root).unwrap(), 1), TestLog::journal().checkpoint(root).unwrap()]
    {
        let (status, answer) = post(&world, to, &json!({ "checkpoint": foreign.to_string() })).await;
        assert_eq!((status, answer["code"].as_str().is_some()), (409, true), "{answer}");
    }
    assert_eq!(post(&world, to, &json!({ "checkpoint": "no note" })).await.0, 400);
}
