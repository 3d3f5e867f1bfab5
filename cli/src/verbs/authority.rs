//! `errand authority`: the signing keys, each of one purpose.

use super::Ctx;
use crate::{
    DONE,
    admin_client::{AdminClient, Query, encode},
    error::{CliError, Result},
    output::{Column, value},
};
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
#[command(
    about = "Signing keys: show, prepare and activate",
    long_about = "Signing keys, each of one purpose. The server rotates them by itself; `prepare` and `activate` do it \
        now. A prepared key is published before it signs, so that every verifier knows it in time.",
    after_help = "EXAMPLES\n  errand authority x509 show --public > ca.pem\n  errand authority x509 prepare\n  \
        errand authority x509 activate 3b1f…"
)]
pub struct AuthorityCommand {
    #[command(subcommand)]
    of: Use,
}

#[derive(Debug, clap::Subcommand)]
enum Use {
    /// Keys that sign X.509-SVIDs
    #[command(subcommand, after_help = "EXAMPLES\n  errand authority x509 show\n  errand authority x509 show --public")]
    X509(AuthorityVerb),
    /// Keys that sign JWT-SVIDs
    #[command(subcommand, after_help = "EXAMPLES\n  errand authority jwt show\n  errand authority jwt prepare")]
    Jwt(AuthorityVerb),
    /// Keys that sign SSH certificates; hosts list them as TrustedUserCAKeys
    #[command(
        subcommand,
        after_help = "EXAMPLES\n  errand authority ssh show --public > /etc/ssh/errand_ca.pub\n  errand authority ssh prepare"
    )]
    Ssh(AuthorityVerb),
}

#[derive(Debug, clap::Subcommand)]
enum AuthorityVerb {
    /// Show the keys and the state of each
    #[command(after_help = "EXAMPLES\n  errand authority x509 show\n  errand authority x509 show --public > ca.pem")]
    Show {
        /// Print the public halves only: PEM, and of ssh keys one OpenSSH line each
        #[arg(long)]
        public: bool,
    },
    /// Make the next key and publish it; it does not sign yet
    #[command(after_help = "EXAMPLES\n  errand authority x509 prepare")]
    Prepare,
    /// Let a prepared key sign from now on
    #[command(after_help = "EXAMPLES\n  errand authority x509 activate\n  errand authority x509 activate 3b1f…")]
    Activate {
        /// Which prepared key [default: the only one]
        #[arg(value_name = "ID")]
        id: Option<String>,
    },
}

pub async fn run(command: AuthorityCommand, ctx: &Ctx) -> Result<i32> {
    let (key_use, verb) = match command.of {
        Use::X509(verb) => ("x509", verb),
        Use::Jwt(verb) => ("jwt-svid", verb),
        Use::Ssh(verb) => ("ssh", verb),
    };
    let admin = ctx.admin()?;
    match verb {
        AuthorityVerb::Show { public } => {
            let keys = list(&admin, key_use).await?;
            if public && !ctx.out.is_json() {
                ctx.out.text(&public_halves(&keys))?;
            } else {
                ctx.out.list("authorities", &keys, None, &columns())?;
            }
        }
        AuthorityVerb::Prepare => {
            let answer = admin.post(&format!("/v1/authorities/{key_use}/prepare"), &json!({})).await?;
            ctx.out.done(&answer, format!("prepared {}; it is published and does not sign yet", named(&answer)))?;
        }
        AuthorityVerb::Activate { id } => {
            let id = match id {
                Some(id) => id,
                None => only_prepared(&list(&admin, key_use).await?)?,
            };
            let answer = admin.post(&format!("/v1/authorities/{}/activate", encode(&id)), &json!({})).await?;
            ctx.out.done(&answer, format!("{id} signs from now on"))?;
        }
    }
    Ok(DONE)
}

async fn list(admin: &AdminClient, key_use: &str) -> Result<Vec<Value>> {
    let answer = admin.get("/v1/authorities", &Query::default().with("use", Some(key_use))).await?;
    Ok(super::rows(&answer, "authorities"))
}

fn named(authority: &Value) -> String {
    match value::text(authority, "id").as_str() {
        "-" => "a key".into(),
        id => id.into(),
    }
}

fn only_prepared(keys: &[Value]) -> Result<String> {
    let prepared: Vec<_> = keys.iter().filter(|k| k["state"] == "prepared").map(|k| value::text(k, "id")).collect();
    match prepared.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            Err(CliError::failed("no key is prepared")
                .hint("prepare one first: `errand authority x509|jwt|ssh prepare`"))
        }
        several => Err(CliError::usage(format!("several keys are prepared: {}", several.join(", "))).hint("name one")),
    }
}

/// The public halves, newest state first as the server lists them.
fn public_halves(keys: &[Value]) -> String {
    let end = |pem: &str| format!("{}\n", pem.trim_end());
    keys.iter().filter_map(|k| k.get("public")?.as_str()).map(end).collect()
}

fn columns() -> Vec<Column> {
    vec![
        Column::field("id", "id").whole(),
        Column::field("state", "state"),
        Column::time("created", "created_at"),
        Column::time("not after", "not_after"),
    ]
}
