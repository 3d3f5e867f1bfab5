//! Registration entries: created once, changed by mask, deleted once, and given to the agents that earned them.

use crate::world::{Identity, Who, World, csr, entry, id, selector};
use proto_wire::spire::api::{
    server::{
        entry::v1::{
            BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, GetAuthorizedEntriesRequest,
            GetEntryRequest, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse, entry_client::EntryClient,
        },
        svid::v1::{BatchNewX509svidRequest, NewJwtsvidRequest, NewX509svidParams, svid_client::SvidClient},
    },
    types::{Entry, EntryMask, entry::AdditionalAttributes},
};
use std::collections::BTreeSet;
use tonic::{Code, Status, Streaming};

async fn get(world: &World, id: &str) -> Result<Entry, Status> {
    let request = GetEntryRequest { id: id.into(), output_mask: None };
    world.entries().get_entry(request).await.map(tonic::Response::into_inner)
}

async fn update(world: &World, entry: Entry, mask: Option<EntryMask>) -> Result<Entry, (Code, String)> {
    let request = BatchUpdateEntryRequest { entries: vec![entry], input_mask: mask, output_mask: None };
    let result = world.entries().batch_update_entry(request).await.unwrap().into_inner().results.remove(0);
    let status = result.status.unwrap();
    result.entry.ok_or((Code::from_i32(status.code), status.message))
}

/// F20.
#[tokio::test]
async fn of_equal_entries_at_once_one_is_made_and_the_others_are_shown_it() {
    let world = World::start().await;
    let one = |_| {
        let mut client = EntryClient::new(world.channel(&Who::Local));
        let request = BatchCreateEntryRequest { entries: vec![entry("/w")], output_mask: None };
        tokio::spawn(async move { client.batch_create_entry(request).await.unwrap().into_inner().results.remove(0) })
    };
    let racing: Vec<_> = (0..16).map(one).collect();
    let (mut made, mut ids) = (0, BTreeSet::new());
    for racer in racing {
        let result = racer.await.unwrap();
        let code = Code::from_i32(result.status.unwrap().code);
        assert!([Code::Ok, Code::AlreadyExists].contains(&code), "{code:?}");
        made += usize::from(code == Code::Ok);
        ids.insert(result.entry.unwrap().id);
    }
    assert_eq!((made, ids.len()), (1, 1));
    let other = Entry { id: ids.first().cloned().unwrap(), ..entry("/other") };
    let taken = world.try_create(vec![other]).await.remove(0);
    assert_eq!(taken.status.unwrap().code, Code::AlreadyExists as i32);
}

#[tokio::test]
async fn an_update_changes_what_its_mask_names_and_without_a_mask_everything() {
    let world = World::start().await;
    let attributes = AdditionalAttributes { disable_x509_svid_prefetch: true, jwt_svid_include_jti: false };
    let first = Entry {
        id: "e".into(),
        hint: "blue".into(),
        dns_names: vec!["a.test".into()],
        x509_svid_ttl: 60,
        additional_attributes: Some(attributes),
        ..entry("/w")
    };
    world.create(vec![first.clone(), Entry { id: "taken".into(), ..entry("/taken") }]).await;
    let stored = get(&world, "e").await.unwrap();
    assert_eq!((stored.revision_number, stored.created_at), (1, crate::world::NOW.as_secs()));
    assert_eq!(Entry { revision_number: 0, created_at: 0, ..stored }, first);

    let mask = EntryMask { hint: true, ..EntryMask::default() };
    let hinted = update(&world, Entry { id: "e".into(), hint: "green".into(), ..Entry::default() }, Some(mask)).await;
    let hinted = hinted.unwrap();
    assert_eq!((hinted.hint.as_str(), hinted.revision_number, hinted.x509_svid_ttl), ("green", 2, 60));
    assert_eq!(hinted.additional_attributes, Some(attributes));

    let whole = update(&world, Entry { id: "e".into(), ..entry("/w") }, None).await.unwrap();
    assert_eq!((whole.hint.as_str(), whole.revision_number, whole.x509_svid_ttl), ("", 3, 0));
    assert_eq!((whole.additional_attributes, whole.dns_names.len()), (None, 0));

    let like = update(&world, Entry { id: "e".into(), ..entry("/taken") }, None).await.unwrap_err();
    assert_eq!(like.0, Code::AlreadyExists);
    assert!(like.1.contains("taken"), "{}", like.1);
    assert_eq!(update(&world, Entry { id: "none".into(), ..entry("/n") }, None).await.unwrap_err().0, Code::NotFound);
    assert_eq!(get(&world, "e").await.unwrap().revision_number, 3);
}

/// F28.
#[tokio::test]
async fn an_entry_is_deleted_once() {
    let world = World::start().await;
    let ids = world.create(vec![entry("/w")]).await;
    let mut asked = ids.clone();
    asked.extend([ids[0].clone(), "none".into(), "a/b".into()]);
    let answer = world.entries().batch_delete_entry(BatchDeleteEntryRequest { ids: asked.clone() }).await.unwrap();
    let results = answer.into_inner().results;
    let codes: Vec<_> = results.iter().map(|r| Code::from_i32(r.status.as_ref().unwrap().code)).collect();
    assert_eq!(codes, [Code::Ok, Code::NotFound, Code::NotFound, Code::InvalidArgument]);
    assert_eq!(results.iter().map(|r| r.id.clone()).collect::<Vec<_>>(), asked);
    assert_eq!(get(&world, &ids[0]).await.unwrap_err().code(), Code::NotFound);
}

/// F11, F37.
#[tokio::test]
async fn an_agent_gets_what_its_own_entries_give_and_of_another_nodes_nothing() {
    let world = World::start().await;
    let (one, two) = (world.agent().await, world.agent().await);
    let of = |agent: &Identity, path: &str| Entry { parent_id: Some(agent.id.clone()), ..entry(path) };
    let ids = world.create(vec![of(&one, "/one"), of(&two, "/two")]).await;
    let who = Who::With(one);
    let mut client = EntryClient::new(world.channel(&who));
    let mine = client.get_authorized_entries(GetAuthorizedEntriesRequest::default()).await.unwrap().into_inner();
    assert_eq!(mine.entries.iter().map(|e| e.id.clone()).collect::<Vec<_>>(), [ids[0].clone()]);

    let mut svids = SvidClient::new(world.channel(&who));
    let ask = |entry: &str| NewX509svidParams { entry_id: entry.into(), csr: csr(Some("/elsewhere")).1 };
    let params = vec![ask(&ids[0]), ask(&ids[1]), ask("none"), ask("")];
    let signed = svids.batch_new_x509svid(BatchNewX509svidRequest { params }).await.unwrap().into_inner().results;
    let codes: Vec<_> = signed.iter().map(|r| Code::from_i32(r.status.as_ref().unwrap().code)).collect();
    assert_eq!(codes, [Code::Ok, Code::NotFound, Code::NotFound, Code::InvalidArgument]);
    // What the CSR names counts for nothing.
    assert_eq!(signed[0].svid.as_ref().unwrap().id, Some(id("/one")));

    let jwt = |entry: &str| NewJwtsvidRequest { entry_id: entry.into(), audience: vec!["a.test".into()] };
    assert_eq!(svids.new_jwtsvid(jwt(&ids[0])).await.unwrap().into_inner().svid.unwrap().id, Some(id("/one")));
    assert_eq!(svids.new_jwtsvid(jwt(&ids[1])).await.unwrap_err().code(), Code::NotFound);
    for n in [0, 501] {
        let params = (0..n).map(|_| NewX509svidParams::default()).collect();
        let refused = svids.batch_new_x509svid(BatchNewX509svidRequest { params }).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{n}");
    }
}

type Sync = Streaming<SyncAuthorizedEntriesResponse>;

async fn sync(world: &World, agent: &Identity, wishes: Vec<SyncAuthorizedEntriesRequest>) -> Result<Sync, Status> {
    let mut client = EntryClient::new(world.channel(&Who::With(agent.clone())));
    Ok(client.sync_authorized_entries(tokio_stream::iter(wishes)).await?.into_inner())
}

async fn pages(mut stream: Sync) -> Vec<SyncAuthorizedEntriesResponse> {
    let mut pages = Vec::new();
    while let Some(page) = stream.message().await.unwrap() {
        pages.push(page);
    }
    pages
}

#[tokio::test]
async fn a_sync_of_many_entries_states_revisions_first_and_then_what_is_asked_for() {
    let world = World::start().await;
    let agent = world.agent().await;
    let of = |n: usize| Entry { parent_id: Some(agent.id.clone()), id: format!("e{n:04}"), ..entry(&format!("/w{n}")) };
    world.create((0..500).map(of).collect()).await;
    let mask = EntryMask { spiffe_id: true, revision_number: true, ..EntryMask::default() };
    let first = SyncAuthorizedEntriesRequest { output_mask: Some(mask), ids: vec![] };
    let few = pages(sync(&world, &agent, vec![first.clone()]).await.unwrap()).await;
    assert_eq!((few.len(), few[0].entries.len(), few[0].more), (1, 500, false));
    assert_eq!((few[0].entries[0].revision_number, few[0].entries[0].selectors.len()), (1, 0));

    world.create((500..1201).map(of).collect()).await;
    let ids = ["e1200", "none", "e0007"].map(String::from).to_vec();
    let wishes = vec![first.clone(), SyncAuthorizedEntriesRequest { output_mask: None, ids }];
    let many = pages(sync(&world, &agent, wishes).await.unwrap()).await;
    let sizes: Vec<_> = many.iter().map(|p| (p.entry_revisions.len(), p.entries.len(), p.more)).collect();
    assert_eq!(sizes, [(500, 0, true), (500, 0, true), (201, 0, false), (0, 2, false)]);
    // The first mask counts for all of it.
    let asked: Vec<_> = many[3].entries.iter().map(|e| (e.id.as_str(), e.selectors.len())).collect();
    assert_eq!(asked, [("e0007", 0), ("e1200", 0)]);

    let no_revision = EntryMask { spiffe_id: true, ..EntryMask::default() };
    for bad in [
        SyncAuthorizedEntriesRequest { output_mask: None, ids: vec!["e0007".into()] },
        SyncAuthorizedEntriesRequest { output_mask: Some(no_revision), ids: vec![] },
    ] {
        let mut refused = sync(&world, &agent, vec![bad]).await.unwrap();
        assert_eq!(refused.message().await.unwrap_err().code(), Code::InvalidArgument);
    }
}

/// F38: an id that is used again is another entry.
#[tokio::test]
async fn a_recycled_id_inherits_nothing() {
    let world = World::start().await;
    let agent = world.agent().await;
    let first = Entry { id: "e".into(), parent_id: Some(agent.id.clone()), hint: "old".into(), ..entry("/old") };
    world.create(vec![first]).await;
    world.entries().batch_delete_entry(BatchDeleteEntryRequest { ids: vec!["e".into()] }).await.unwrap();
    let second = Entry { id: "e".into(), selectors: vec![selector("unix:uid:2")], ..entry("/new") };
    world.create(vec![second]).await;
    let now = get(&world, "e").await.unwrap();
    assert_eq!((now.hint.as_str(), now.revision_number, now.spiffe_id), ("", 1, Some(id("/new"))));
    let mut svids = SvidClient::new(world.channel(&Who::With(agent)));
    let jwt = NewJwtsvidRequest { entry_id: "e".into(), audience: vec!["a.test".into()] };
    assert_eq!(svids.new_jwtsvid(jwt).await.unwrap_err().code(), Code::NotFound);
}
