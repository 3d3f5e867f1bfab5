//! The token endpoint over mutual TLS.

use super::Shared;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use serde_json::json;
use std::{collections::BTreeMap, convert::Infallible, sync::Arc};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

pub async fn serve(shared: Arc<Shared>) -> (JoinHandle<()>, u16) {
    let acceptor = TlsAcceptor::from(Arc::new(config(&shared)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, shared) = (acceptor.clone(), shared.clone());
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let client = tls.get_ref().1.peer_certificates().unwrap()[0].to_vec();
                let client = spiffe::cert::spiffe_id_from_der(&client).unwrap().to_string();
                let service = service_fn(move |request| exchange(shared.clone(), client.clone(), request));
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
            });
        }
    });
    (serving, port)
}

fn config(shared: &Shared) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(shared.authority.der.clone())).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let server_id = shared.script.lock().unwrap().server_id.clone();
    let svid = shared.authority.svid(&server_id);
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![svid.der.into()], PrivateKeyDer::try_from(svid.key).unwrap())
        .unwrap()
}

async fn exchange(
    shared: Arc<Shared>,
    client: String,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let key = request.headers()["idempotency-key"].to_str().unwrap().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let form: BTreeMap<String, String> = std::str::from_utf8(&body)
        .unwrap()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| {
            (name.to_string(), percent_encoding::percent_decode_str(value).decode_utf8().unwrap().into_owned())
        })
        .collect();
    let role = form["audience"].clone();
    shared.seen.lock().unwrap().exchanges.push((form.clone(), key, client));
    let script = shared.script.lock().unwrap().clone();
    if script.silent {
        return std::future::pending().await;
    }
    let (status, answer) = match (script.refusals.get(&role), script.keyed.get(&role), key_of(&form)) {
        (Some((error, description, status)), ..) => {
            (*status, json!({ "error": error, "error_description": description }))
        }
        (_, Some(format), None) => {
            let error = "invalid_authorization_details";
            (400, json!({ "error": error, "error_description": "a key is wanted", "key_format": format }))
        }
        (.., key) => (200, granted(&shared, &role, key.as_deref())),
    };
    Ok(Response::builder().status(status).body(Full::from(answer.to_string())).unwrap())
}

/// The key in `authorization_details`.
pub fn key_of(form: &BTreeMap<String, String>) -> Option<String> {
    let details: serde_json::Value = serde_json::from_str(form.get("authorization_details")?).unwrap();
    assert_eq!((&details[0]["type"], details.as_array().unwrap().len()), (&json!("urn:errand:key"), 1));
    details[0]["public_key"].as_str().map(str::to_string)
}

fn granted(shared: &Shared, role: &str, key: Option<&str>) -> serde_json::Value {
    let script = shared.script.lock().unwrap().clone();
    let mut credential = script.credentials[role].clone();
    let life = script.credential_ttl.unwrap_or(script.task_ttl);
    if let (Some(key), None) = (key, credential.get("certificate")) {
        credential["certificate"] = super::ssh::certificate(shared.dir.path(), key).into();
    }
    credential["id"] = "lease-1".into();
    credential["expires_at"] = shared.now().plus(life).to_string().into();
    json!({
        "access_token": "opaque", "issued_token_type": "urn:errand:token-type:database-credential",
        "token_type": "N_A", "expires_in": life.as_secs(), "credential": credential,
    })
}
