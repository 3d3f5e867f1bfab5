//! `errand bundle`: what verifies this trust domain's identities, and those of federated ones.

use super::{Ctx, args, view};
use crate::{
    DONE, admin_client,
    error::{CliError, Result},
    output::Column,
};
use proto_jose::{BundleParts, spiffe_bundle_json};
use proto_wire::spire::api::{
    server::bundle::v1::{self as wire, bundle_client::BundleClient},
    types::Bundle,
};
use serde_json::{Value, json};
use tonic::{Code, transport::Channel};

#[derive(Debug, clap::Args)]
#[command(
    about = "Trust bundles",
    after_help = "EXAMPLES\n  errand bundle show > ca.pem\n  errand bundle show --format spiffe > bundle.json\n  \
        errand bundle list"
)]
pub struct BundleCommand {
    #[command(subcommand)]
    verb: BundleVerb,
}

#[derive(Debug, clap::Subcommand)]
enum BundleVerb {
    /// Print a trust domain's bundle
    ///
    /// As PEM certificates, or as the SPIFFE bundle document that other trust domains federate with. With
    /// `--output json` it is the SPIFFE document unless --format says otherwise.
    #[command(after_help = "EXAMPLES\n  errand bundle show > ca.pem\n  \
        errand bundle show --trust-domain prod.example.org --format spiffe")]
    Show {
        /// Form of the bundle [default: pem]
        #[arg(long, value_enum, value_name = "FORMAT")]
        format: Option<BundleFormat>,
        /// A federated trust domain instead of the server's own
        #[arg(long, value_name = "TRUST-DOMAIN", value_parser = args::trust_domain)]
        trust_domain: Option<String>,
    },
    /// List the trust domains whose bundles are known, the server's own first
    #[command(after_help = "EXAMPLES\n  errand bundle list\n  errand bundle list --output json")]
    List,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum BundleFormat {
    /// CA certificates
    Pem,
    /// The SPIFFE bundle document: a JWKS with X.509 and JWT keys
    Spiffe,
}

pub async fn run(command: BundleCommand, ctx: &Ctx) -> Result<i32> {
    let mut client = BundleClient::new(ctx.admin()?.channel().await?);
    match command.verb {
        BundleVerb::Show { format, trust_domain } => {
            let bundle = match trust_domain {
                None => own(&mut client).await?,
                Some(trust_domain) => {
                    let request = wire::GetFederatedBundleRequest { trust_domain, output_mask: None };
                    client.get_federated_bundle(request).await.map_err(admin_client::status)?.into_inner()
                }
            };
            show(&bundle, format, ctx)?;
        }
        BundleVerb::List => {
            let own = own(&mut client).await?;
            let mut bundles = vec![summary(&own, true)];
            bundles.extend(federated(&mut client).await?.iter().map(|b| summary(b, false)));
            ctx.out.list("bundles", &bundles, None, &columns())?;
        }
    }
    Ok(DONE)
}

/// The server's own bundle.
pub(super) async fn own(client: &mut BundleClient<Channel>) -> Result<Bundle> {
    let request = wire::GetBundleRequest { output_mask: None };
    Ok(client.get_bundle(request).await.map_err(admin_client::status)?.into_inner())
}

async fn federated(client: &mut BundleClient<Channel>) -> Result<Vec<Bundle>> {
    let (mut bundles, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = wire::ListFederatedBundlesRequest { output_mask: None, page_size: 100, page_token };
        let answer = match client.list_federated_bundles(request).await {
            Ok(answer) => answer.into_inner(),
            // A server without federation has no bundle but its own.
            Err(status) if status.code() == Code::Unimplemented => return Ok(bundles),
            Err(status) => return Err(admin_client::status(status)),
        };
        let empty = answer.bundles.is_empty();
        bundles.extend(answer.bundles);
        page_token = answer.next_page_token;
        if page_token.is_empty() || empty {
            return Ok(bundles);
        }
    }
}

fn show(bundle: &Bundle, format: Option<BundleFormat>, ctx: &Ctx) -> Result<()> {
    match format {
        Some(BundleFormat::Spiffe) => ctx.out.json(&document(bundle)?),
        None if ctx.out.is_json() => ctx.out.json(&document(bundle)?),
        None => ctx.out.text(&pem(bundle)),
        Some(BundleFormat::Pem) if ctx.out.is_json() => {
            ctx.out.json(&json!({ "trust_domain": bundle.trust_domain, "pem": pem(bundle) }))
        }
        Some(BundleFormat::Pem) => ctx.out.text(&pem(bundle)),
    }
}

pub(super) fn pem(bundle: &Bundle) -> String {
    view::certificates(bundle.x509_authorities.iter().map(|c| c.asn1.as_slice()))
}

fn document(bundle: &Bundle) -> Result<Value> {
    let x509: Vec<_> = bundle.x509_authorities.iter().map(|c| c.asn1.clone()).collect();
    let jwt: Vec<_> = bundle.jwt_authorities.iter().map(|k| (k.key_id.as_str(), k.public_key.as_slice())).collect();
    spiffe_bundle_json(&BundleParts {
        x509: &x509,
        jwt: &jwt,
        sequence: bundle.sequence_number,
        refresh_hint: u64::try_from(bundle.refresh_hint).unwrap_or_default(),
    })
    .map_err(|e| CliError::failed(format!("the server's bundle holds a key that cannot be read: {e}")))
}

fn summary(bundle: &Bundle, own: bool) -> Value {
    json!({
        "trust_domain": bundle.trust_domain,
        "own": own,
        "x509_authorities": bundle.x509_authorities.len(),
        "jwt_authorities": bundle.jwt_authorities.len(),
        "sequence_number": bundle.sequence_number,
        "refresh_hint": proto_types::format_duration(std::time::Duration::from_secs(
            u64::try_from(bundle.refresh_hint).unwrap_or_default(),
        )),
    })
}

fn columns() -> Vec<Column> {
    vec![
        Column::field("trust domain", "trust_domain").whole(),
        Column::field("own", "own"),
        Column::field("x509 authorities", "x509_authorities"),
        Column::field("jwt authorities", "jwt_authorities"),
        Column::field("sequence", "sequence_number"),
    ]
}
