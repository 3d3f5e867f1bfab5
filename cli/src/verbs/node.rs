//! `errand node`: join tokens and attested nodes.

use super::{Ctx, args, view};
use crate::{
    DONE,
    admin_client::{self, Paging},
    error::Result,
    output::Column,
};
use proto_types::SpiffeId;
use proto_wire::{
    convert::spiffe_id_out,
    spire::api::server::agent::v1::{self as wire, agent_client::AgentClient},
};
use serde_json::{Value, json};
use std::time::Duration;
use tonic::transport::Channel;

#[derive(Debug, clap::Args)]
#[command(
    about = "Join tokens and attested nodes",
    after_help = "EXAMPLES\n  errand node token --ttl 10m\n  errand node list\n  \
        errand node ban spiffe://example.org/spire/agent/join_token/3f2a"
)]
pub struct NodeCommand {
    #[command(subcommand)]
    verb: NodeVerb,
}

#[derive(Debug, clap::Subcommand)]
enum NodeVerb {
    /// Make a token with which one agent may join
    ///
    /// The token is printed once and works once. The server keeps only its digest.
    #[command(after_help = "EXAMPLES\n  errand node token\n  \
        errand node token --ttl 1h --spiffe-id spiffe://example.org/racks/r7")]
    Token {
        /// How long the token may be used
        #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = args::duration)]
        ttl: Duration,
        /// A further identity for the node, to be a parent of entries
        #[arg(long, value_name = "ID", value_parser = args::spiffe_id)]
        spiffe_id: Option<SpiffeId>,
    },
    /// List attested nodes
    #[command(after_help = "EXAMPLES\n  errand node list\n  errand node list --banned --output json")]
    List {
        /// Banned nodes only
        #[arg(long)]
        banned: bool,
        /// Nodes attested by this method only, such as join_token
        #[arg(long, value_name = "TYPE")]
        attestation_type: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one node
    #[command(after_help = "EXAMPLES\n  errand node show spiffe://example.org/spire/agent/join_token/3f2a")]
    Show {
        #[arg(value_name = "ID", value_parser = args::spiffe_id)]
        id: SpiffeId,
    },
    /// Forget a node: its agent must attest again
    ///
    /// Its tasks end. To keep it from coming back, ban it.
    #[command(after_help = "EXAMPLES\n  errand node evict spiffe://example.org/spire/agent/join_token/3f2a")]
    Evict {
        #[arg(value_name = "ID", value_parser = args::spiffe_id)]
        id: SpiffeId,
    },
    /// Refuse a node from now on: its tasks end, its agent gets nothing more and may not attest again
    #[command(after_help = "EXAMPLES\n  errand node ban spiffe://example.org/spire/agent/join_token/3f2a")]
    Ban {
        #[arg(value_name = "ID", value_parser = args::spiffe_id)]
        id: SpiffeId,
    },
}

pub async fn run(command: NodeCommand, ctx: &Ctx) -> Result<i32> {
    let mut client = AgentClient::new(ctx.admin()?.channel().await?);
    match command.verb {
        NodeVerb::Token { ttl, spiffe_id } => token(&mut client, ttl, spiffe_id, ctx).await?,
        NodeVerb::List { banned, attestation_type, paging } => {
            let filter = wire::list_agents_request::Filter {
                by_banned: banned.then_some(true),
                by_attestation_type: attestation_type.unwrap_or_default(),
                ..Default::default()
            };
            let (rows, more) = list(&mut client, filter, paging).await?;
            ctx.out.list("nodes", &rows, more.map(Value::from).as_ref(), &columns())?;
        }
        NodeVerb::Show { id } => {
            let request = wire::GetAgentRequest { id: Some(spiffe_id_out(&id)), output_mask: None };
            let node = client.get_agent(request).await.map_err(admin_client::status)?.into_inner();
            ctx.out.one(&view::node(&node), &fields())?;
        }
        NodeVerb::Evict { id } => {
            let request = wire::DeleteAgentRequest { id: Some(spiffe_id_out(&id)) };
            client.delete_agent(request).await.map_err(admin_client::status)?;
            done(ctx, &id, "evicted")?;
        }
        NodeVerb::Ban { id } => {
            let request = wire::BanAgentRequest { id: Some(spiffe_id_out(&id)) };
            client.ban_agent(request).await.map_err(admin_client::status)?;
            done(ctx, &id, "banned")?;
        }
    }
    Ok(DONE)
}

async fn token(client: &mut AgentClient<Channel>, ttl: Duration, alias: Option<SpiffeId>, ctx: &Ctx) -> Result<()> {
    let agent_id = alias.as_ref().map(spiffe_id_out);
    let request = wire::CreateJoinTokenRequest { ttl: args::seconds(ttl), token: String::new(), agent_id };
    let made = client.create_join_token(request).await.map_err(admin_client::status)?.into_inner();
    let expires = view::time(made.expires_at);
    if ctx.out.is_json() {
        let alias = alias.map(|a| a.to_string());
        return ctx.out.json(&json!({ "token": made.value, "expires_at": expires, "spiffe_id": alias }));
    }
    ctx.out.text(&format!("{}\n", made.value))?;
    ctx.out.note(format!("works once, until {}; it is not shown again", crate::output::value::plain(&expires)));
    Ok(())
}

/// Attested nodes, page after page, and the token of the next page when there are more.
pub(super) async fn list(
    client: &mut AgentClient<Channel>,
    filter: wire::list_agents_request::Filter,
    paging: Paging,
) -> Result<(Vec<Value>, Option<String>)> {
    let mut rows = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = wire::ListAgentsRequest {
            filter: Some(filter.clone()),
            output_mask: None,
            page_size: i32::try_from(paging.page(rows.len())).unwrap_or(i32::MAX),
            page_token,
        };
        let answer = client.list_agents(request).await.map_err(admin_client::status)?.into_inner();
        let empty = answer.agents.is_empty();
        rows.extend(answer.agents.iter().map(view::node));
        page_token = answer.next_page_token;
        if page_token.is_empty() || empty {
            return Ok((rows, None));
        }
        if rows.len() >= paging.wanted() {
            return Ok((rows, Some(page_token)));
        }
    }
}

fn columns() -> Vec<Column> {
    vec![
        Column::field("id", "id").whole(),
        Column::field("attested by", "attestation_type"),
        Column::time("expires", "x509svid_expires_at"),
        Column::field("banned", "banned"),
        Column::field("version", "agent_version"),
    ]
}

fn fields() -> Vec<Column> {
    let mut fields = columns();
    fields.push(Column::field("serial", "x509svid_serial_number"));
    fields.push(Column::field("can reattest", "can_reattest"));
    fields.push(Column::new("selectors", view::selector_text));
    fields
}

fn done(ctx: &Ctx, id: &SpiffeId, state: &'static str) -> Result<()> {
    ctx.out.done(&json!({ "id": id.to_string(), "state": state }), format!("{state} {id}"))
}
