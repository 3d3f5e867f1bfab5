//! What holds for any bytes sent as a message of the Workload API, of SPIRE's server API or of `errand.v1`: the first
//! byte says which. Shared by the fuzz target and the tests.

use proto_types::id::parse_trust_domain;
use proto_wire::{
    convert::{entry_in, entry_out, spiffe_id_in, spiffe_id_out},
    errand::v1 as errand,
    spire::api::{
        server::{agent::v1 as agent, bundle::v1 as bundle, entry::v1 as entry, svid::v1 as svid},
        types,
    },
    workload,
};
use std::fmt::Debug;

/// A message that is read is the same when it is written and read again; what becomes a noun of the house becomes the
/// same one again. Answers whether it was one.
pub fn holds(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else { return false };
    match kind % 24 {
        0 => an_entry(bytes),
        1 => an_id(bytes),
        2 => again::<entry::BatchCreateEntryRequest>(bytes),
        3 => again::<entry::BatchUpdateEntryRequest>(bytes),
        4 => again::<entry::ListEntriesRequest>(bytes),
        5 => again::<entry::SyncAuthorizedEntriesRequest>(bytes),
        6 => again::<agent::AttestAgentRequest>(bytes),
        7 => again::<agent::ListAgentsRequest>(bytes),
        8 => again::<agent::CreateJoinTokenRequest>(bytes),
        9 => again::<agent::PostStatusRequest>(bytes),
        10 => again::<svid::MintX509svidRequest>(bytes),
        11 => again::<svid::MintJwtsvidRequest>(bytes),
        12 => again::<svid::BatchNewX509svidRequest>(bytes),
        13 => again::<svid::NewJwtsvidRequest>(bytes),
        14 => again::<bundle::GetBundleRequest>(bytes),
        15 => again::<bundle::BatchSetFederatedBundleRequest>(bytes),
        16 => again::<errand::StartTaskRequest>(bytes),
        17 => again::<errand::NewTaskX509svidRequest>(bytes),
        18 => again::<errand::NewTaskJwtsvidRequest>(bytes),
        19 => again::<errand::EndTaskRequest>(bytes),
        20 => again::<errand::StartRequest>(bytes),
        21 => again::<errand::ExplainRequest>(bytes),
        22 => again::<workload::JwtsvidRequest>(bytes),
        _ => again::<workload::ValidateJwtsvidRequest>(bytes),
    }
}

fn again<M: prost::Message + Default + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let Ok(read) = M::decode(bytes) else { return false };
    let written = read.encode_to_vec();
    assert!(written.len() <= bytes.len(), "the shortest form is not longer than another");
    assert_eq!(M::decode(written.as_slice()).as_ref(), Ok(&read));
    assert_eq!(read.encoded_len(), written.len());
    true
}

fn an_entry(bytes: &[u8]) -> bool {
    again::<types::Entry>(bytes);
    let Ok(message) = <types::Entry as prost::Message>::decode(bytes) else { return false };
    let td = parse_trust_domain("example.org").expect("a good name");
    let Ok(entry) = entry_in(&message, &td, || "given".into()) else { return false };
    assert_eq!(entry.spiffe_id.trust_domain(), &td);
    assert_eq!(entry_in(&entry_out(&entry), &td, String::new), Ok(entry));
    true
}

fn an_id(bytes: &[u8]) -> bool {
    again::<types::Spiffeid>(bytes);
    let Ok(message) = <types::Spiffeid as prost::Message>::decode(bytes) else { return false };
    let Ok(id) = spiffe_id_in(Some(&message), "id") else { return false };
    assert_eq!(id.to_string(), format!("spiffe://{}{}", message.trust_domain, message.path));
    assert_eq!(spiffe_id_out(&id), message);
    true
}
