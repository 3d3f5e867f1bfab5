//! The Workload API as its standard words it, from the side of a workload.

use crate::{
    fake::{ISSUER, SVID_TTL},
    world::{World, ids, next, with_header},
};
use proto_wire::{
    errand::v1::GetInfoRequest,
    workload::{
        JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, WitBundlesRequest, WitsvidRequest,
        X509BundlesRequest, X509svidRequest,
    },
};
use std::time::Duration;
use tonic::{Code, Request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_pushes_reaches_an_open_stream_and_what_it_takes_away_ends_it() {
    let world = World::new().await;
    let state = &world.server.state;
    world.create(world.entry("a", "/web")).await;
    let mut stream = world.x509().await.unwrap();
    assert_eq!(ids(&next(&mut stream).await.unwrap().unwrap()), ["spiffe://example.org/web"]);
    state.create(world.entry("b", "/db"));
    assert_eq!(
        ids(&next(&mut stream).await.unwrap().unwrap()),
        ["spiffe://example.org/web", "spiffe://example.org/db"]
    );
    state.delete("a");
    assert_eq!(ids(&next(&mut stream).await.unwrap().unwrap()), ["spiffe://example.org/db"]);
    state.delete("b");
    let ended = next(&mut stream).await.unwrap_err();
    assert_eq!((ended.code(), ended.message()), (Code::PermissionDenied, "no identity issued"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_wants_more_than_the_caller_has_gives_it_nothing() {
    let world = World::new().await;
    let mut entry = world.entry("a", "/web");
    entry
        .selectors
        .push(proto_wire::spire::api::types::Selector { r#type: "unix".into(), value: "user:nobody-else".into() });
    world.create(entry).await;
    let refused = match world.x509().await {
        Ok(mut stream) => next(&mut stream).await.unwrap_err(),
        Err(status) => status,
    };
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_svid_comes_with_its_key_its_bundle_and_its_hint() {
    let world = World::new().await;
    let mut entry = world.entry("a", "/web");
    entry.hint = "internal".into();
    world.create(entry).await;
    let answer = next(&mut world.x509().await.unwrap()).await.unwrap().unwrap();
    let svid = &answer.svids[0];
    assert_eq!(svid.hint, "internal");
    assert_eq!(svid.bundle, world.server.state.ca.der);
    let key = rcgen::KeyPair::try_from(svid.x509_svid_key.as_slice()).unwrap();
    use x509_parser::prelude::FromDer as _;
    let (rest, leaf) = x509_parser::certificate::X509Certificate::from_der(&svid.x509_svid).unwrap();
    assert!(rest.is_empty());
    assert_eq!(leaf.public_key().subject_public_key.data.as_ref(), rcgen::PublicKeyData::der_bytes(&key));
    assert!(answer.crl.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g01_the_security_header_is_there_once_and_says_true() {
    let world = World::new().await;
    world.create(world.entry("a", "/web")).await;
    let bad: [&[&str]; 5] = [&[], &["True"], &["true", "true"], &["false"], &["true "]];
    for values in bad {
        let mut request = Request::new(X509svidRequest {});
        for value in values {
            request.metadata_mut().append("workload.spiffe.io", value.parse().unwrap());
        }
        let refused = world.workload().fetch_x509svid(request).await.unwrap_err();
        // A trailing blank is cut off by HTTP itself.
        if *values != ["true "] {
            assert_eq!(refused.code(), Code::InvalidArgument, "{values:?}");
        }
    }
    let naked = Request::new(JwtsvidRequest { audience: vec!["a".into()], spiffe_id: String::new() });
    assert_eq!(world.workload().fetch_jwtsvid(naked).await.unwrap_err().code(), Code::InvalidArgument);
    let naked = Request::new(ValidateJwtsvidRequest { audience: "a".into(), svid: "b".into() });
    assert_eq!(world.workload().validate_jwtsvid(naked).await.unwrap_err().code(), Code::InvalidArgument);
    assert!(world.workload().fetch_x509_bundles(Request::new(X509BundlesRequest {})).await.is_err());
    assert!(world.workload().fetch_jwt_bundles(Request::new(JwtBundlesRequest {})).await.is_err());
    assert!(world.x509().await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wit_svids_are_unimplemented() {
    let world = World::new().await;
    let svid = world.workload().fetch_witsvid(with_header(WitsvidRequest {})).await.unwrap_err();
    let bundles = world.workload().fetch_wit_bundles(with_header(WitBundlesRequest {})).await.unwrap_err();
    assert_eq!((svid.code(), bundles.code()), (Code::Unimplemented, Code::Unimplemented));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_without_an_identity_is_told_so_by_every_call() {
    let world = World::new().await;
    let jwt = JwtsvidRequest { audience: vec!["a".into()], spiffe_id: String::new() };
    assert_eq!(world.workload().fetch_jwtsvid(with_header(jwt)).await.unwrap_err().code(), Code::PermissionDenied);
    let mut bundles =
        world.workload().fetch_x509_bundles(with_header(X509BundlesRequest {})).await.unwrap().into_inner();
    assert_eq!(next(&mut bundles).await.unwrap_err().code(), Code::PermissionDenied);
    let mut bundles = world.workload().fetch_jwt_bundles(with_header(JwtBundlesRequest {})).await.unwrap().into_inner();
    assert_eq!(next(&mut bundles).await.unwrap_err().code(), Code::PermissionDenied);
    let svid = ValidateJwtsvidRequest { audience: "a".into(), svid: "x".into() };
    assert_eq!(world.workload().validate_jwtsvid(with_header(svid)).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jwt_svids_are_for_named_audiences_kept_to_half_life_and_validated() {
    let world = World::new().await;
    world.create(world.entry("a", "/web")).await;
    world.create(world.entry("b", "/db")).await;
    let ask = |audience: &[&str], id: &str| {
        let audience = audience.iter().map(|a| a.to_string()).collect();
        let request = with_header(JwtsvidRequest { audience, spiffe_id: id.into() });
        let mut client = world.workload();
        async move { client.fetch_jwtsvid(request).await.map(|r| r.into_inner().svids) }
    };
    assert_eq!(ask(&[], "").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(ask(&[""], "").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(ask(&["aud"], "spiffe://example.org/other").await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(ask(&["aud"], "not an id").await.unwrap_err().code(), Code::InvalidArgument);
    let all = ask(&["aud", "two"], "").await.unwrap();
    assert_eq!(all.len(), 2, "one for each identity");
    let one = ask(&["two", "aud"], "spiffe://example.org/web").await.unwrap();
    assert_eq!(one[0], all[0], "kept, whatever the order of the audiences");
    assert_eq!(world.server.state.script().jwts, 2);
    let validate = |audience: &str, svid: &str| {
        let request = with_header(ValidateJwtsvidRequest { audience: audience.into(), svid: svid.into() });
        let mut client = world.workload();
        async move { client.validate_jwtsvid(request).await.map(|r| r.into_inner()) }
    };
    let valid = validate("aud", &one[0].svid).await.unwrap();
    assert_eq!(valid.spiffe_id, "spiffe://example.org/web");
    assert!(valid.claims.unwrap().fields.contains_key("exp"));
    let at = one[0].svid.len() - 10;
    let other = if &one[0].svid[at..=at] == "A" { "B" } else { "A" };
    let mut forged = one[0].svid.clone();
    forged.replace_range(at..=at, other);
    for (audience, svid) in
        [("other", one[0].svid.as_str()), ("aud", &forged), ("", &one[0].svid), ("aud", "a.b"), ("aud", "")]
    {
        assert_eq!(validate(audience, svid).await.unwrap_err().code(), Code::InvalidArgument, "{audience}");
    }
    world.clock.advance(Duration::from_secs(170));
    assert_ne!(ask(&["aud", "two"], "spiffe://example.org/web").await.unwrap()[0], one[0], "past its half-life");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_are_keyed_by_trust_domain_and_hold_no_key_of_another_use() {
    let world = World::new().await;
    world.create(world.entry("a", "/web")).await;
    let mut x509 = world.workload().fetch_x509_bundles(with_header(X509BundlesRequest {})).await.unwrap().into_inner();
    let x509 = next(&mut x509).await.unwrap().unwrap();
    assert_eq!(x509.bundles["spiffe://example.org"], world.server.state.ca.der);
    let mut jwt = world.workload().fetch_jwt_bundles(with_header(JwtBundlesRequest {})).await.unwrap().into_inner();
    let jwt = next(&mut jwt).await.unwrap().unwrap();
    let jwks: serde_json::Value = serde_json::from_slice(&jwt.bundles["spiffe://example.org"]).unwrap();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 1);
    assert_eq!(jwks["keys"][0]["kid"], crate::ca::KID);
    assert_eq!(jwks["keys"][0]["use"], "jwt-svid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_streams_that_are_never_read_hold_up_nobody() {
    let world = World::new().await;
    world.create(world.entry("a", "/web")).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(world.x509().await.unwrap());
    }
    for _ in 0..5 {
        world.clock.advance(SVID_TTL.mul_f64(0.56));
    }
    let mut one = world.x509().await.unwrap();
    assert_eq!(ids(&next(&mut one).await.unwrap().unwrap()), ["spiffe://example.org/web"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_needs_to_know_of_the_server_is_answered_here() {
    let world = World::new().await;
    let info = world.info().get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.trust_domain.as_str(), info.issuer.as_str()), ("example.org", ISSUER));
    assert_eq!(info.task_id, "");
    assert_eq!(info.launch_socket, world.dir.path().join("launch.sock").display().to_string());
}
