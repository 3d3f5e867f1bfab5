//! Speaks to a running agent as any program built on rust-spiffe does: fetches, validates, and follows an update.
//!
//! `tests-peers-rust FILE`: prints what held; writes FILE when it follows, and ends when a second identity came. Ends
//! with status 1 at the first thing that does not hold.

use spiffe::{WorkloadApiClient, X509Source};
use std::{error::Error, time::Duration};
use tokio_stream::StreamExt as _;

const AUDIENCE: &str = "peers.example.org";
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("tests-peers-rust FILE")?;
    let client = WorkloadApiClient::connect_env().await?;
    fetch(&client).await?;
    tokio::time::timeout(PATIENCE, follow(&client, &file)).await??;
    Ok(())
}

async fn fetch(client: &WorkloadApiClient) -> Result<(), Box<dyn Error>> {
    let svid = client.fetch_x509_svid().await?;
    let context = client.fetch_x509_context().await?;
    let trust_domain = svid.spiffe_id().trust_domain();
    context.bundle_set().get(trust_domain).ok_or("the context has no bundle of its own trust domain")?;
    println!("rust-spiffe: X.509-SVID and context of {}", svid.spiffe_id());

    let token = client.fetch_jwt_token([AUDIENCE], None).await?;
    let valid = client.validate_jwt_token(AUDIENCE, &token).await?;
    if valid.spiffe_id() != svid.spiffe_id() {
        return Err("the agent validates the token as somebody else's".into());
    }
    if client.validate_jwt_token("others.example.org", &token).await.is_ok() {
        return Err("a JWT-SVID for another audience was accepted".into());
    }
    println!("rust-spiffe: JWT-SVID validates for its audience and for no other");

    let source = X509Source::new().await?;
    if source.svid()?.spiffe_id() != svid.spiffe_id() {
        return Err("the source gives another identity than the call".into());
    }
    source.shutdown().await;
    println!("rust-spiffe: X509Source has the same identity");
    Ok(())
}

async fn follow(client: &WorkloadApiClient, file: &str) -> Result<(), Box<dyn Error>> {
    let mut contexts = client.stream_x509_contexts().await?;
    while let Some(context) = contexts.next().await {
        let held = context?.svids().len();
        println!("rust-spiffe: {held} identities");
        if held > 1 {
            return Ok(());
        }
        std::fs::write(file, "following\n")?;
    }
    Err("the stream ended".into())
}
