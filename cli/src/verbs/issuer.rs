//! `errand issuer`: the OIDC issuer that clouds trust, and its documents as files for one that cannot reach the server.
//!
//! Publishes what the public listener serves, byte for byte; whoever serves the files must do so under the issuer's URL.

use super::{Ctx, files, rows};
use crate::{
    DONE,
    admin_client::Query,
    error::{CliError, Result},
};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Longest document, bytes: a set of the largest number of keys that is read anywhere.
const MAX_DOCUMENT: usize = 1024 * 1024;
/// The keys first: who reads the other finds the keys it names.
const DOCUMENTS: [(&str, &str, &str); 2] =
    [("/keys", "", "keys"), ("/.well-known/openid-configuration", ".well-known", "openid-configuration")];

#[derive(Debug, clap::Args)]
#[command(
    about = "The OIDC issuer: its URL, and its documents as files",
    after_help = "EXAMPLES\n  errand issuer show\n  errand issuer publish --to /srv/www/errand"
)]
pub struct IssuerCommand {
    #[command(subcommand)]
    verb: IssuerVerb,
}

#[derive(Debug, clap::Subcommand)]
enum IssuerVerb {
    /// Print the issuer's URL
    ///
    /// What tokens say as `iss`, and what a cloud is told to trust.
    #[command(after_help = "EXAMPLES\n  errand issuer show\n  errand issuer show --output json")]
    Show,
    /// Write the discovery document and the keys, for an STS that cannot reach the server
    ///
    /// DIR is served under the issuer's URL, by any web server. Keys change: publish again more often than the server's
    /// `refresh_hint`, from a timer.
    #[command(after_help = "EXAMPLES\n  errand issuer publish --to /srv/www/errand\n  \
        errand issuer publish --to ./issuer && aws s3 sync ./issuer s3://bucket")]
    Publish {
        /// The directory, made when it is not there
        #[arg(long, value_name = "DIR")]
        to: String,
    },
}

pub async fn run(command: IssuerCommand, ctx: &Ctx) -> Result<i32> {
    match command.verb {
        IssuerVerb::Show => {
            let server = ctx.admin()?.get("/v1/server", &Query::default()).await?;
            let issuer = server.get("issuer").and_then(Value::as_str).unwrap_or_default();
            if ctx.out.is_json() {
                ctx.out.json(&json!({ "issuer": issuer }))?;
            } else {
                ctx.out.text(&format!("{issuer}\n"))?;
            }
        }
        IssuerVerb::Publish { to } => publish(&to, ctx).await?,
    }
    Ok(DONE)
}

async fn publish(to: &str, ctx: &Ctx) -> Result<()> {
    if let Some((scheme, _)) = to.split_once("://") {
        return Err(CliError::usage(format!("this version publishes to a directory, not to {scheme}://"))
            .at("--to")
            .hint("publish to a directory and copy it from there, such as with `aws s3 sync`"));
    }
    let admin = ctx.admin()?;
    let mut documents = Vec::new();
    for (path, folder, name) in DOCUMENTS {
        documents.push((folder, name, admin.document(path, MAX_DOCUMENT).await?));
    }
    let (keys, configuration) = (parsed(&documents[0].2)?, parsed(&documents[1].2)?);
    let dir = PathBuf::from(to);
    for (folder, name, bytes) in &documents {
        files::write_public(&dir.join(folder), name, bytes)?;
    }
    let issuer = configuration.get("issuer").cloned().unwrap_or_default();
    let count = rows(&keys, "keys").len();
    let done = json!({ "issuer": issuer, "keys": count, "to": to });
    ctx.out.done(&done, format!("published {count} keys of {} in {to}", issuer.as_str().unwrap_or_default()))
}

/// What is not JSON was not answered by a server of this kind.
fn parsed(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|e| CliError::failed(format!("the server's document is not JSON: {e}")))
}
