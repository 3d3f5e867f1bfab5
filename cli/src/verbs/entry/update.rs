//! `errand entry update`: changes the fields that are named, and no other.

use super::{client, fields::Fields};
use crate::{
    DONE, admin_client,
    error::{CliError, Result},
    verbs::{Ctx, view},
};
use proto_wire::spire::api::{server::entry::v1 as wire, types::EntryMask};

#[derive(Debug, clap::Args)]
#[command(
    about = "Change an entry",
    long_about = "Changes the fields of an entry that are named; the others stay. A list that is named (--selector, \
        --dns, --federates-with) replaces the whole list. Agents follow within a second.",
    after_help = "EXAMPLES\n  errand entry update 0b9c6a1e-1f7e-4d0b-9a57-3f8a2c1d4e5f --x509-svid-ttl 30m\n  \
        errand entry update web --selector unix:uid:1000 --selector unix:gid:1000"
)]
pub struct UpdateArgs {
    /// The entry's id
    #[arg(value_name = "ID", required_unless_present = "entry_id")]
    id: Option<String>,
    /// The same as ID
    #[arg(long, value_name = "ID", conflicts_with = "id")]
    entry_id: Option<String>,
    #[command(flatten)]
    fields: Fields,
    /// Whether the workload may call the server's administrative APIs
    #[arg(long, value_name = "BOOL")]
    admin: Option<bool>,
    /// Whether the workload is a server of its own
    #[arg(long, value_name = "BOOL")]
    downstream: Option<bool>,
}

fn mask(args: &UpdateArgs) -> EntryMask {
    let f = &args.fields;
    EntryMask {
        spiffe_id: f.spiffe_id.is_some(),
        parent_id: f.parent_id.is_some(),
        selectors: !f.selector.is_empty(),
        x509_svid_ttl: f.x509_svid_ttl.is_some(),
        jwt_svid_ttl: f.jwt_svid_ttl.is_some(),
        dns_names: !f.dns.is_empty(),
        federates_with: !f.federates_with.is_empty(),
        hint: f.hint.is_some(),
        admin: args.admin.is_some(),
        downstream: args.downstream.is_some(),
        ..Default::default()
    }
}

pub async fn run(args: UpdateArgs, ctx: &Ctx) -> Result<i32> {
    let mask = mask(&args);
    if mask == EntryMask::default() {
        return Err(
            CliError::usage("nothing to change").hint("name at least one field; see `errand entry update --help`")
        );
    }
    let mut entry = args.fields.entry(args.id.or(args.entry_id).unwrap_or_default());
    entry.admin = args.admin.unwrap_or_default();
    entry.downstream = args.downstream.unwrap_or_default();
    let request = wire::BatchUpdateEntryRequest { entries: vec![entry], input_mask: Some(mask), output_mask: None };
    let answer = client(ctx).await?.batch_update_entry(request).await.map_err(admin_client::status)?.into_inner();
    let result = answer.results.into_iter().next().ok_or_else(|| CliError::failed("the server's answer is empty"))?;
    if let Some(refused) = admin_client::row(result.status.as_ref()) {
        return Err(refused);
    }
    ctx.out.one(&view::entry(&result.entry.unwrap_or_default()), &super::card())?;
    Ok(DONE)
}
