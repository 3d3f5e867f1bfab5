//! Join tokens, attestation, and what an agent and an operator do with a node. Group F of the bad inputs, its first part.

use crate::world::{Who, World, csr, entry, id};
use prost::Message as _;
use proto_wire::spire::api::{
    server::{
        agent::v1::{
            AgentX509svidParams, BanAgentRequest, CreateJoinTokenRequest, DeleteAgentRequest, GetAgentRequest,
            PostStatusRequest, RenewAgentRequest, agent_client::AgentClient,
        },
        entry::v1::ListEntriesRequest,
    },
    types::{Agent, Entry, PermissionDeniedDetails, Spiffeid, permission_denied_details::Reason},
};
use std::time::Duration;
use tonic::{Code, Status};

async fn token(world: &World, ttl: i32, token: &str, alias: Option<Spiffeid>) -> Result<String, Status> {
    let request = CreateJoinTokenRequest { ttl, token: token.into(), agent_id: alias };
    Ok(world.agents().create_join_token(request).await?.into_inner().value)
}

async fn shown(world: &World, id: &Spiffeid) -> Result<Agent, Status> {
    let request = GetAgentRequest { id: Some(id.clone()), output_mask: None };
    Ok(world.agents().get_agent(request).await?.into_inner())
}

/// F01, F03.
#[tokio::test]
async fn a_join_token_lets_one_agent_in_once_in_its_time() {
    let world = World::start().await;
    let good = world.token().await;
    let expired = token(&world, 60, "", None).await.unwrap();
    let agent = world.attest(good.as_bytes()).await.unwrap();
    assert!(agent.id.path.starts_with("/spire/agent/join_token/"), "{:?}", agent.id);
    assert!(!agent.id.path.contains(&good), "the token stands in the agent's name");
    world.clock.advance(Duration::from_secs(60));
    let before = world.records();
    let huge = "t".repeat(1 << 20);
    for (what, bad) in [
        ("used", good.as_str()),
        ("expired", &expired),
        ("unknown", "00000000000000000000000000000000"),
        ("empty", ""),
        ("with a path", "../../server"),
        ("of 257 bytes", &huge[..257]),
        ("of 100 KiB", &huge[..100 << 10]),
        ("of 1 MiB", &huge),
        ("with a NUL", "0000000000000000\0"),
        ("with a space", "0000000000000000 0"),
    ] {
        let refused = world.attest(bad.as_bytes()).await.err().unwrap();
        let codes = [Code::PermissionDenied, Code::InvalidArgument, Code::OutOfRange, Code::ResourceExhausted];
        assert!(codes.contains(&refused.code()), "{what}: {refused:?}");
        assert!(bad.len() < 8 || !refused.message().contains(bad), "{what} comes back");
    }
    assert_eq!(world.records(), before, "who proved nothing leaves no record");
    let last = token(&world, 60, "", None).await.unwrap();
    world.clock.advance(Duration::from_secs(59));
    world.attest(last.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_token_may_be_chosen_and_bring_a_second_name_which_goes_with_the_node() {
    let world = World::start().await;
    let chosen = "018f2f0c-8f6b-7c3e-8a52-0123456789ab";
    assert_eq!(token(&world, 600, chosen, Some(id("/rack/7"))).await.unwrap(), chosen);
    assert_eq!(token(&world, 600, chosen, None).await.unwrap_err().code(), Code::AlreadyExists);
    let agent = world.attest(chosen.as_bytes()).await.unwrap();
    assert_eq!(
        token(&world, 600, chosen, None).await.unwrap_err().code(),
        Code::AlreadyExists,
        "used is not forgotten"
    );
    let entries = async || {
        let list = world.entries().list_entries(ListEntriesRequest::default()).await.unwrap().into_inner();
        list.entries.into_iter().map(|e| e.spiffe_id.unwrap().path).collect::<Vec<_>>()
    };
    world.create(vec![Entry { parent_id: Some(agent.id.clone()), ..entry("/w") }]).await;
    assert_eq!(entries().await.len(), 2);
    world.agents().delete_agent(DeleteAgentRequest { id: Some(agent.id) }).await.unwrap();
    assert_eq!(entries().await, ["/w"], "the name of the node goes with it, the entries of its workloads stay");

    let foreign = Spiffeid { trust_domain: "other.test".into(), path: "/rack/7".into() };
    for (what, ttl, text, alias) in [
        ("no TTL", 0, "", None),
        ("a negative TTL", -1, "", None),
        ("a TTL of more than a day", 86_401, "", None),
        ("a short token", 600, "short", None),
        ("a token with a path", 600, "../0000000000000000", None),
        ("a token of 129 bytes", 600, &"t".repeat(129)[..], None),
        ("a foreign name", 600, "", Some(foreign)),
        ("an agent's name", 600, "", Some(id("/spire/agent/x"))),
        ("no name", 600, "", Some(id(""))),
    ] {
        let refused = token(&world, ttl, text, alias).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}");
    }
    token(&world, 86_400, &"t".repeat(128), Some(id("/rack/8"))).await.unwrap();
}

fn reason(status: &Status) -> Option<Reason> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Envelope {
        #[prost(message, repeated, tag = "3")]
        details: Vec<Any>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Any {
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }
    let envelope = Envelope::decode(status.details()).ok()?;
    Some(PermissionDeniedDetails::decode(envelope.details.first()?.value.as_slice()).ok()?.reason())
}

/// F10: a ban is a ban, for what the agent holds and for what it tries; an eviction lets a new token in.
#[tokio::test]
async fn a_banned_agent_is_told_so_and_an_evicted_one_that_it_must_attest() {
    let world = World::start().await;
    let chosen = "018f2f0c-8f6b-7c3e-8a52-0123456789ab";
    token(&world, 600, chosen, None).await.unwrap();
    let agent = world.attest(chosen.as_bytes()).await.unwrap();
    let mut client = AgentClient::new(world.channel(&Who::With(agent.clone())));
    let renew = || RenewAgentRequest { params: Some(AgentX509svidParams { csr: csr(None).1 }) };
    client.renew_agent(renew()).await.unwrap();
    world.agents().ban_agent(BanAgentRequest { id: Some(agent.id.clone()) }).await.unwrap();
    let banned = client.renew_agent(renew()).await.unwrap_err();
    assert_eq!((banned.code(), reason(&banned)), (Code::PermissionDenied, Some(Reason::AgentBanned)));
    assert!(shown(&world, &agent.id).await.unwrap().banned);
    assert_eq!(world.attest(chosen.as_bytes()).await.err().unwrap().code(), Code::PermissionDenied);
    world.agents().delete_agent(DeleteAgentRequest { id: Some(agent.id.clone()) }).await.unwrap();
    let evicted = client.renew_agent(renew()).await.unwrap_err();
    assert_eq!(reason(&evicted), Some(Reason::AgentNotAttested));
    assert_eq!(shown(&world, &agent.id).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(
        client.renew_agent(RenewAgentRequest { params: None }).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

/// F37.
#[tokio::test]
async fn what_is_no_agents_id_is_no_agent() {
    let world = World::start().await;
    let foreign = Spiffeid { trust_domain: "other.test".into(), path: "/spire/agent/x".into() };
    let mut client = world.agents();
    for (what, bad, code) in [
        ("none", None, Code::InvalidArgument),
        ("a workload's", Some(id("/w")), Code::InvalidArgument),
        ("nearly an agent's", Some(id("/spire/agentx")), Code::InvalidArgument),
        ("the server's", Some(id("/spire/server")), Code::InvalidArgument),
        ("a foreign agent's", Some(foreign), Code::InvalidArgument),
        ("an unknown agent's", Some(id("/spire/agent/x")), Code::NotFound),
    ] {
        let get = GetAgentRequest { id: bad.clone(), output_mask: None };
        assert_eq!(client.get_agent(get).await.unwrap_err().code(), code, "{what}");
        assert_eq!(client.ban_agent(BanAgentRequest { id: bad.clone() }).await.unwrap_err().code(), code, "{what}");
        assert_eq!(client.delete_agent(DeleteAgentRequest { id: bad }).await.unwrap_err().code(), code, "{what}");
    }
}

#[tokio::test]
async fn an_agents_version_is_shown_recorded_once_and_lost_by_no_renewal() {
    let world = World::start().await;
    let agent = world.agent().await;
    let mut client = AgentClient::new(world.channel(&Who::With(agent.clone())));
    let status = |version: &str| PostStatusRequest { agent_version: version.into(), ..PostStatusRequest::default() };
    client.post_status(status("1.15.3")).await.unwrap();
    assert_eq!(shown(&world, &agent.id).await.unwrap().agent_version, "1.15.3");
    let before = world.records();
    client.post_status(status("1.15.3")).await.unwrap();
    client.post_status(status("")).await.unwrap();
    assert_eq!(world.records(), before, "what is known already is not recorded again");
    for bad in ["v".repeat(256), "a\nb".into()] {
        assert_eq!(client.post_status(status(&bad)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    client.post_status(status(&"v".repeat(255))).await.unwrap();

    // A renewal that is not used yet survives it: both serials stay good.
    let (key, request) = csr(None);
    let renewal = RenewAgentRequest { params: Some(AgentX509svidParams { csr: request }) };
    let svid = client.renew_agent(renewal).await.unwrap().into_inner().svid.unwrap();
    client.post_status(status("1.15.4")).await.unwrap();
    let renewed = Who::With(crate::world::Identity::new(svid, &key));
    AgentClient::new(world.channel(&renewed)).post_status(status("1.16.0")).await.unwrap();
    assert_eq!(shown(&world, &agent.id).await.unwrap().agent_version, "1.16.0");
}

/// I26 in small: one address may say only so much, and what it says is still true a second later.
#[tokio::test]
async fn an_address_attests_and_reports_at_a_bounded_rate() {
    let world = World::start().await;
    let agent = world.agent().await;
    let mut client = AgentClient::new(world.channel(&Who::With(agent)));
    let mut refused = None;
    for n in 0..50 {
        let status = PostStatusRequest { agent_version: format!("v{n}"), ..PostStatusRequest::default() };
        if let Err(status) = client.post_status(status).await {
            refused = Some((n, status.code()));
            break;
        }
    }
    assert!(refused.is_some_and(|(n, code)| n >= 10 && code == Code::ResourceExhausted), "{refused:?}");
    let mut attempts = Vec::new();
    for _ in 0..40 {
        attempts.push(world.attest(b"0000000000000000").await.err().unwrap().code());
    }
    assert_eq!(attempts[0], Code::PermissionDenied);
    assert!(attempts.contains(&Code::ResourceExhausted), "{attempts:?}");
}
