//! `errand mint`: an operator makes one SVID without an agent. The journal records it.

use super::{Ctx, args, bundle, files, view};
use crate::{
    DONE,
    admin_client::{self, AdminClient},
    error::{CliError, Result},
};
use proto_types::SpiffeId;
use proto_wire::{
    convert::spiffe_id_out,
    spire::api::server::{
        bundle::v1::bundle_client::BundleClient,
        svid::v1::{self as wire, svid_client::SvidClient},
    },
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType, string::Ia5String};
use serde_json::json;
use std::{path::PathBuf, time::Duration};

#[derive(Debug, clap::Args)]
#[command(
    about = "Mint one SVID, as an operator",
    long_about = "Mints one SVID, as an operator, for what no agent can attest. It is recorded in the journal with your \
        name; it cannot be taken back before it expires.",
    after_help = "EXAMPLES\n  errand mint x509 --spiffe-id spiffe://acme.test/legacy --write ./id\n  \
        errand mint jwt --spiffe-id spiffe://acme.test/legacy --audience api.acme.test"
)]
pub struct MintCommand {
    #[command(subcommand)]
    verb: MintVerb,
}

#[derive(Debug, clap::Subcommand)]
enum MintVerb {
    /// Mint an X.509-SVID; its key is made here and never leaves this machine
    ///
    /// Without --write the certificate chain, the key and the bundle are printed as PEM.
    #[command(after_help = "EXAMPLES\n  errand mint x509 --spiffe-id spiffe://acme.test/legacy --write ./id\n  \
        errand mint x509 --spiffe-id spiffe://acme.test/legacy --ttl 30m --write ./id")]
    X509 {
        /// The identity
        #[arg(long, value_name = "ID", value_parser = args::spiffe_id)]
        spiffe_id: SpiffeId,
        /// How long it lives [default: the server's]
        #[arg(long, value_name = "DURATION", value_parser = args::duration)]
        ttl: Option<Duration>,
        /// A DNS name for the certificate; repeat it for several
        #[arg(long, value_name = "NAME", value_parser = args::dns_name)]
        dns: Vec<String>,
        /// Write svid.pem, key.pem and bundle.pem into this directory, readable by you only
        #[arg(long, value_name = "DIR")]
        write: Option<PathBuf>,
    },
    /// Mint a JWT-SVID and print it
    #[command(after_help = "EXAMPLES\n  errand mint jwt --spiffe-id spiffe://acme.test/legacy \
        --audience api.acme.test --ttl 5m")]
    Jwt {
        /// The identity
        #[arg(long, value_name = "ID", value_parser = args::spiffe_id)]
        spiffe_id: SpiffeId,
        /// Who shall accept it; repeat it for several
        #[arg(long, value_name = "AUDIENCE", required = true)]
        audience: Vec<String>,
        /// How long it lives [default: the server's]
        #[arg(long, value_name = "DURATION", value_parser = args::duration)]
        ttl: Option<Duration>,
    },
}

pub async fn run(command: MintCommand, ctx: &Ctx) -> Result<i32> {
    match command.verb {
        MintVerb::X509 { spiffe_id, ttl, dns, write } => {
            let key = KeyPair::generate().map_err(|e| CliError::failed(format!("cannot make a key: {e}")))?;
            let request = wire::MintX509svidRequest { csr: csr(&key, &spiffe_id, &dns)?, ttl: ttl_out(ttl) };
            x509(&ctx.admin()?, request, &key, write, ctx).await?;
        }
        MintVerb::Jwt { spiffe_id, audience, ttl } => {
            let id = Some(spiffe_id_out(&spiffe_id));
            let request = wire::MintJwtsvidRequest { id, audience, ttl: ttl_out(ttl) };
            let mut client = SvidClient::new(ctx.admin()?.channel().await?);
            let minted = client.mint_jwtsvid(request).await.map_err(admin_client::status)?.into_inner().svid;
            let svid = minted.ok_or_else(|| CliError::failed("the server's answer holds no SVID"))?;
            if ctx.out.is_json() {
                ctx.out.json(&json!({
                    "spiffe_id": view::id(svid.id.as_ref()),
                    "token": svid.token,
                    "issued_at": view::time(svid.issued_at),
                    "expires_at": view::time(svid.expires_at),
                }))?;
            } else {
                ctx.out.text(&format!("{}\n", svid.token))?;
            }
        }
    }
    Ok(DONE)
}

fn ttl_out(ttl: Option<Duration>) -> i32 {
    ttl.map(args::seconds).unwrap_or_default()
}

/// A request that says the identity and the names, and proves possession of the key (RFC 2986).
fn csr(key: &KeyPair, id: &SpiffeId, dns: &[String]) -> Result<Vec<u8>> {
    let fail = |e: rcgen::Error| CliError::failed(format!("cannot write the certificate request: {e}"));
    let name = |text: String| Ia5String::try_from(text).map_err(fail);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names.push(SanType::URI(name(id.to_string())?));
    for one in dns {
        params.subject_alt_names.push(SanType::DnsName(name(one.clone())?));
    }
    Ok(params.serialize_request(key).map_err(fail)?.der().to_vec())
}

async fn x509(
    admin: &AdminClient,
    request: wire::MintX509svidRequest,
    key: &KeyPair,
    write: Option<PathBuf>,
    ctx: &Ctx,
) -> Result<()> {
    let channel = admin.channel().await?;
    let minted = SvidClient::new(channel.clone()).mint_x509svid(request).await.map_err(admin_client::status)?;
    let svid = minted.into_inner().svid.ok_or_else(|| CliError::failed("the server's answer holds no SVID"))?;
    let bundle = bundle::pem(&bundle::own(&mut BundleClient::new(channel)).await?);
    let chain = view::certificates(svid.cert_chain.iter().map(Vec::as_slice));
    let key = key.serialize_pem();
    let mut shown = json!({ "spiffe_id": view::id(svid.id.as_ref()), "expires_at": view::time(svid.expires_at) });
    if let Some(dir) = write {
        files::write_svid(&dir, &files::SvidFiles { svid: &chain, key: &key, bundle: &bundle })?;
        shown["written_to"] = dir.display().to_string().into();
        let text = crate::output::value::text(&shown, "expires_at");
        return ctx
            .out
            .done(&shown, format!("wrote svid.pem, key.pem and bundle.pem to {}; valid until {text}", dir.display()));
    }
    if !ctx.out.is_json() {
        return ctx.out.text(&format!("{chain}{key}{bundle}"));
    }
    shown["svid"] = chain.into();
    shown["key"] = key.into();
    shown["bundle"] = bundle.into();
    ctx.out.json(&shown)
}
