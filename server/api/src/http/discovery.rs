//! Discovery for strangers: OIDC and OAuth metadata, the keys of task tokens, and the SPIFFE bundle. Holds no secret and
//! no name of anyone; may face the internet. The documents name the configured issuer, never the Host of a request.

use crate::Api;
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use proto_jose::{BundleParts, KeyPurpose, jwk_from_spki, spiffe_bundle_json};
use proto_types::KeyUse;
use serde_json::{Value, json};

/// An X.509-SVID over mTLS, or a JWT-SVID as `client_assertion`; and the first by the name that OAuth clients without
/// SPIFFE know (RFC 8705 section 2.1.1).
const AUTH_METHODS: [&str; 3] = ["spiffe_x509", "spiffe_jwt", "tls_client_auth"];

/// The same without the assertion: who asks about a token, or ends one, holds a key.
const BOUND_METHODS: [&str; 2] = ["spiffe_x509", "tls_client_auth"];

pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(openid))
        .route("/.well-known/oauth-authorization-server", get(oauth))
        .route("/keys", get(keys))
        .route("/bundle", get(bundle))
        .with_state(api)
}

fn metadata(api: &Api) -> Value {
    let s = api.service.settings();
    let beside = |endpoint: &str, name: &str| endpoint.strip_suffix("/token").map(|base| format!("{base}/{name}"));
    json!({
        "issuer": s.issuer,
        "jwks_uri": format!("{}/keys", s.issuer.trim_end_matches('/')),
        "token_endpoint": s.token_endpoint,
        "introspection_endpoint": beside(&s.token_endpoint, "introspect"),
        "revocation_endpoint": beside(&s.token_endpoint, "revoke"),
        "mtls_endpoint_aliases": {
            "token_endpoint": s.mtls_token_endpoint,
            "introspection_endpoint": beside(&s.mtls_token_endpoint, "introspect"),
            "revocation_endpoint": beside(&s.mtls_token_endpoint, "revoke"),
        },
        "grant_types_supported": ["urn:ietf:params:oauth:grant-type:token-exchange"],
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": AUTH_METHODS,
        "introspection_endpoint_auth_methods_supported": BOUND_METHODS,
        "revocation_endpoint_auth_methods_supported": BOUND_METHODS,
        "tls_client_certificate_bound_access_tokens": true,
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "jti", "act", "txn", "task", "cnf"],
    })
}

async fn openid(State(api): State<Api>) -> Response {
    cached(Json(metadata(&api)))
}

async fn oauth(State(api): State<Api>) -> Response {
    let mut document = metadata(&api);
    if let Some(fields) = document.as_object_mut() {
        fields.remove("id_token_signing_alg_values_supported");
        fields.remove("subject_types_supported");
        fields.remove("claims_supported");
        fields.insert("response_types_supported".into(), json!([]));
    }
    cached(Json(document))
}

/// The `oauth` keys only: a JWT-SVID must never pass for a task token.
async fn keys(State(api): State<Api>) -> Response {
    let keys = api.service.ports().authorities.public_keys(KeyUse::Oauth);
    let jwks: Result<Vec<_>, _> =
        keys.iter().map(|k| jwk_from_spki(&k.spki_der, Some(&k.kid), KeyPurpose::Signature)).collect();
    match jwks {
        Ok(keys) => cached(Json(json!({ "keys": keys }))),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn bundle(State(api): State<Api>) -> Response {
    let bundle = api.service.ports().authorities.bundle();
    let jwt: Vec<(&str, &[u8])> = bundle.jwt.iter().map(|k| (k.kid.as_str(), k.spki_der.as_slice())).collect();
    let parts =
        BundleParts { x509: &bundle.x509, jwt: &jwt, sequence: bundle.sequence, refresh_hint: bundle.refresh_hint };
    match spiffe_bundle_json(&parts) {
        Ok(document) => cached(Json(document)),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn cached(body: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "public, max-age=60")], body).into_response()
}
