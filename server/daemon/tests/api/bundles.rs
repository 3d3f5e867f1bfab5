//! The bundle, minting, and what the server says of itself.

use crate::world::{TD, Who, World, csr, entry};
use proto_wire::{
    grpc::health::v1::{
        HealthCheckRequest, HealthListRequest, health_check_response::ServingStatus, health_client::HealthClient,
    },
    spire::api::{
        server::{
            bundle::v1::{
                AppendBundleRequest, BatchDeleteFederatedBundleRequest, BatchSetFederatedBundleRequest,
                CountBundlesRequest, GetBundleRequest, GetFederatedBundleRequest, ListFederatedBundlesRequest,
                bundle_client::BundleClient,
            },
            debug::v1::{GetInfoRequest, debug_client::DebugClient},
            svid::v1::{MintJwtsvidRequest, MintX509svidRequest, svid_client::SvidClient},
        },
        types::{BundleMask, Spiffeid},
    },
};
use std::time::Duration;
use tonic::Code;

#[tokio::test]
async fn there_is_one_bundle_and_what_would_keep_another_says_that_it_cannot() {
    let world = World::start().await;
    let mut client = BundleClient::new(world.channel(&Who::Local));
    let whole = client.get_bundle(GetBundleRequest::default()).await.unwrap().into_inner();
    assert_eq!((whole.trust_domain.as_str(), whole.x509_authorities.len(), whole.jwt_authorities.len()), (TD, 1, 1));
    let request = GetBundleRequest { output_mask: Some(BundleMask { sequence_number: true, ..Default::default() }) };
    let masked = client.get_bundle(request).await.unwrap().into_inner();
    assert_eq!((masked.x509_authorities.len(), masked.jwt_authorities.len(), masked.refresh_hint), (0, 0, 0));
    assert_eq!(masked.sequence_number, whole.sequence_number);
    assert_eq!(client.count_bundles(CountBundlesRequest {}).await.unwrap().into_inner().count, 1);

    let list = ListFederatedBundlesRequest::default();
    assert!(client.list_federated_bundles(list).await.unwrap().into_inner().bundles.is_empty());
    let list = ListFederatedBundlesRequest { page_size: -1, ..Default::default() };
    assert_eq!(client.list_federated_bundles(list).await.unwrap_err().code(), Code::InvalidArgument);
    for (name, code) in [
        ("other.test", Code::NotFound),
        ("spiffe://other.test", Code::NotFound),
        (TD, Code::InvalidArgument),
        ("https://other.test", Code::InvalidArgument),
        ("", Code::InvalidArgument),
    ] {
        let get = GetFederatedBundleRequest { trust_domain: name.into(), output_mask: None };
        assert_eq!(client.get_federated_bundle(get).await.unwrap_err().code(), code, "{name}");
    }
    let before = world.records();
    let set = BatchSetFederatedBundleRequest { bundle: vec![whole], output_mask: None };
    assert_eq!(client.batch_set_federated_bundle(set).await.unwrap_err().code(), Code::Unimplemented);
    let delete = BatchDeleteFederatedBundleRequest { trust_domains: vec!["other.test".into()], mode: 0 };
    assert_eq!(client.batch_delete_federated_bundle(delete).await.unwrap_err().code(), Code::Unimplemented);
    let append = AppendBundleRequest::default();
    assert_eq!(client.append_bundle(append).await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(world.records(), before);
}

#[tokio::test]
async fn an_operator_mints_for_workloads_and_for_nobody_else() {
    let world = World::start().await;
    let mut client = SvidClient::new(world.channel(&Who::Local));
    let minted = client.mint_x509svid(MintX509svidRequest { csr: csr(Some("/w")).1, ttl: 60 }).await.unwrap();
    let svid = minted.into_inner().svid.unwrap();
    assert_eq!((svid.id.unwrap().path.as_str(), svid.expires_at), ("/w", crate::world::NOW.as_secs() + 60));
    let task = "/w/task/018f2f0c-8f6b-7c3e-8a52-0123456789ab";
    let before = world.records();
    for (what, csr, ttl) in [
        ("nothing", vec![], 0),
        ("garbage", b"garbage".to_vec(), 0),
        ("nobody", csr(None).1, 0),
        ("the server", csr(Some("/spire/server")).1, 0),
        ("an agent", csr(Some("/spire/agent/x")).1, 0),
        ("a task", csr(Some(task)).1, 0),
        ("a negative TTL", csr(Some("/w")).1, -1),
    ] {
        let refused = client.mint_x509svid(MintX509svidRequest { csr, ttl }).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}");
    }
    let jwt = |td: &str, path: &str, audience: &[&str], ttl| MintJwtsvidRequest {
        id: Some(Spiffeid { trust_domain: td.into(), path: path.into() }),
        audience: audience.iter().map(ToString::to_string).collect(),
        ttl,
    };
    for (what, bad) in [
        ("no audience", jwt(TD, "/w", &[], 0)),
        ("an empty audience", jwt(TD, "/w", &[""], 0)),
        ("17 audiences", jwt(TD, "/w", &["a"; 17], 0)),
        ("another trust domain", jwt("other.test", "/w", &["a"], 0)),
        ("the server", jwt(TD, "/spire/server", &["a"], 0)),
        ("a task", jwt(TD, task, &["a"], 0)),
        ("a negative TTL", jwt(TD, "/w", &["a"], -1)),
        ("no id", MintJwtsvidRequest { id: None, ..jwt(TD, "/w", &["a"], 0) }),
    ] {
        assert_eq!(client.mint_jwtsvid(bad).await.unwrap_err().code(), Code::InvalidArgument, "{what}");
    }
    assert_eq!(world.records(), before);
    let minted = client.mint_jwtsvid(jwt(TD, "/w", &["a", "b"], 60)).await.unwrap().into_inner().svid.unwrap();
    assert_eq!((minted.expires_at - minted.issued_at, minted.token.split('.').count()), (60, 3));
}

#[tokio::test]
async fn the_server_says_how_it_is_on_the_admin_socket_only() {
    let world = World::start().await;
    let mut health = HealthClient::new(world.channel(&Who::Local));
    let whole = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(whole.status(), ServingStatus::Serving);
    let listed = health.list(HealthListRequest {}).await.unwrap().into_inner().statuses;
    assert_eq!(listed.len(), 1);
    let unknown = HealthCheckRequest { service: "spire.api.server.entry.v1.Entry".into() };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), Code::NotFound);

    world.agent().await;
    world.create(vec![entry("/a"), entry("/b")]).await;
    world.clock.advance(Duration::from_secs(90));
    let mut debug = DebugClient::new(world.channel(&Who::Local));
    let info = debug.get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.uptime, info.agents_count, info.entries_count, info.federated_bundles_count), (90, 1, 2, 1));
    assert_eq!(info.svid_chain[0].id.as_ref().unwrap().path, "/spire/server");
    assert!(info.svid_chain[0].expires_at > world.server.service.now().as_secs());
}
