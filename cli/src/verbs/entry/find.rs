//! `errand entry list` and `count`: what is looked for.

use super::{Client, columns};
use crate::{
    DONE,
    admin_client::{self, Paging},
    error::Result,
    verbs::{Ctx, args, view},
};
use proto_types::{Selector, SpiffeId};
use proto_wire::{
    convert::{selector_out, spiffe_id_out},
    spire::api::{
        server::entry::v1 as wire,
        types::{FederatesWithMatch, SelectorMatch, federates_with_match, selector_match},
    },
};
use serde_json::json;

#[derive(Debug, Clone, clap::Args)]
pub struct Filter {
    /// Entries that give this identity
    #[arg(long, value_name = "ID", value_parser = args::spiffe_id)]
    spiffe_id: Option<SpiffeId>,
    /// Entries under this agent or node alias
    #[arg(long, value_name = "ID", value_parser = args::spiffe_id)]
    parent_id: Option<SpiffeId>,
    /// Entries that have this selector; repeat it for entries that have all of them
    #[arg(long, value_name = "TYPE:VALUE", value_parser = args::selector)]
    selector: Vec<Selector>,
    /// Entries that federate with this trust domain
    #[arg(long, value_name = "TRUST-DOMAIN", value_parser = args::trust_domain)]
    federates_with: Vec<String>,
    /// Entries with this hint
    #[arg(long, value_name = "TEXT")]
    hint: Option<String>,
    /// Entries of downstream servers only
    #[arg(long)]
    downstream: bool,
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    paging: Paging,
}

impl Filter {
    fn selectors(&self) -> Option<SelectorMatch> {
        let selectors: Vec<_> = self.selector.iter().map(selector_out).collect();
        let r#match = selector_match::MatchBehavior::MatchSuperset.into();
        (!selectors.is_empty()).then_some(SelectorMatch { selectors, r#match })
    }
    fn domains(&self) -> Option<FederatesWithMatch> {
        let r#match = federates_with_match::MatchBehavior::MatchSuperset.into();
        let trust_domains = self.federates_with.clone();
        (!trust_domains.is_empty()).then_some(FederatesWithMatch { trust_domains, r#match })
    }
}

pub async fn list(client: &mut Client, args: ListArgs, ctx: &Ctx) -> Result<i32> {
    let (filter, paging) = (args.filter, args.paging);
    let (mut rows, mut page_token) = (Vec::new(), String::new());
    let more = loop {
        let request = wire::ListEntriesRequest {
            filter: Some(wire::list_entries_request::Filter {
                by_spiffe_id: filter.spiffe_id.as_ref().map(spiffe_id_out),
                by_parent_id: filter.parent_id.as_ref().map(spiffe_id_out),
                by_selectors: filter.selectors(),
                by_federates_with: filter.domains(),
                by_hint: filter.hint.clone(),
                by_downstream: filter.downstream.then_some(true),
            }),
            output_mask: None,
            page_size: i32::try_from(paging.page(rows.len())).unwrap_or(i32::MAX),
            page_token,
        };
        let answer = client.list_entries(request).await.map_err(admin_client::status)?.into_inner();
        let empty = answer.entries.is_empty();
        rows.extend(answer.entries.iter().map(view::entry));
        page_token = answer.next_page_token;
        if page_token.is_empty() || empty {
            break None;
        }
        if rows.len() >= paging.wanted() {
            break Some(page_token.into());
        }
    };
    ctx.out.list("entries", &rows, more.as_ref(), &columns())?;
    Ok(DONE)
}

pub async fn count(client: &mut Client, filter: Filter, ctx: &Ctx) -> Result<i32> {
    let request = wire::CountEntriesRequest {
        filter: Some(wire::count_entries_request::Filter {
            by_spiffe_id: filter.spiffe_id.as_ref().map(spiffe_id_out),
            by_parent_id: filter.parent_id.as_ref().map(spiffe_id_out),
            by_selectors: filter.selectors(),
            by_federates_with: filter.domains(),
            by_hint: filter.hint.clone(),
            by_downstream: filter.downstream.then_some(true),
        }),
    };
    let count = client.count_entries(request).await.map_err(admin_client::status)?.into_inner().count;
    if ctx.out.is_json() {
        ctx.out.json(&json!({ "count": count }))?
    } else {
        ctx.out.text(&format!("{count}\n"))?
    }
    Ok(DONE)
}
