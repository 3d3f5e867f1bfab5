//! `POST /oauth2/introspect` (RFC 7662) and `POST /oauth2/revoke` (RFC 7009): who asks, about which token. What is said
//! and what ends is the service's to decide.

use super::oauth;
use crate::{Api, Peer};
use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Uri, header},
    response::Response,
    routing::post,
};
use serde_json::json;
use server_core::exchange::{ClientAuth, ExchangeForm, OAuthCode, OAuthError, TokenForm};
use server_service::TokenCaller;

pub(crate) fn router(api: Api) -> Router {
    Router::new().route("/oauth2/introspect", post(introspect)).route("/oauth2/revoke", post(revoke)).with_state(api)
}

async fn introspect(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let told = match read(&api, &peer, &uri, &headers, body).await {
        Ok((caller, asked)) => api.service.introspect(&caller, &asked.token).await,
        Err(error) => Err(error),
    };
    oauth::answer(&api, told)
}

/// RFC 7009 section 2.2: the answer has no content that means anything; it is an object so that every client can read it.
async fn revoke(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let done = match read(&api, &peer, &uri, &headers, body).await {
        Ok((caller, asked)) => api.service.revoke_token(&caller, &asked.token).await,
        Err(error) => Err(error),
    };
    oauth::answer(&api, done.map(|()| json!({})))
}

async fn read(
    api: &Api,
    peer: &Peer,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<(TokenCaller, TokenForm), OAuthError> {
    let judged = |error| oauth::judged(api, peer, error);
    let form = oauth::form(uri, headers, body).await.map_err(judged)?;
    let caller = match who(api, peer, headers, &form).await {
        Ok(caller) => caller,
        Err(error) => {
            super::record_denial(api, peer, uri.path()).await;
            return Err(judged(error));
        }
    };
    let asked = TokenForm::read(&form)?;
    if let Some(id) = caller.spiffe_id() {
        asked.comes_from(&id)?;
    }
    Ok((caller, asked))
}

async fn who(api: &Api, peer: &Peer, headers: &HeaderMap, form: &ExchangeForm) -> Result<TokenCaller, OAuthError> {
    if let Peer::Local { .. } = peer {
        let refused =
            |problem: crate::problem::Problem| OAuthError::new(OAuthCode::InvalidClient, problem.0.to_string());
        let name = super::operator(api, peer).map_err(refused)?;
        return Ok(TokenCaller::operator(name.unwrap_or_default()));
    }
    let cert = peer.cert(api.service.now());
    match ClientAuth::read(form, headers.contains_key(header::AUTHORIZATION), cert.is_some())? {
        ClientAuth::Assertion { .. } => {
            let why = "a client_assertion is good for an exchange only; ask about tokens over mTLS";
            Err(OAuthError::new(OAuthCode::InvalidClient, why))
        }
        ClientAuth::Certificate => match cert {
            Some(cert) => api.service.token_caller(&cert.id, &cert.serial).await,
            None => {
                Err(OAuthError::new(OAuthCode::InvalidClient, "the certificate has expired; connect with a new SVID"))
            }
        },
    }
}
