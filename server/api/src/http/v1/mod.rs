//! `/v1`: what operators, frameworks and the console read and do, as JSON. The same shapes as the command line prints.

mod apply;
mod authorities;
mod explain;
mod holds;
mod journal;
mod leases;
mod policies;
mod query;
mod server;
mod targets;
mod tasks;
mod views;

use crate::{Api, Peer, problem::Problem};
use axum::{
    Extension, RequestExt, Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};

/// Who was found to administer; put into the request's extensions by the gate.
#[derive(Clone, Debug)]
pub(crate) struct Operator(pub Option<String>);

pub(crate) fn router(api: Api) -> Router {
    let routes = Router::new()
        .merge(server::routes())
        .merge(apply::routes())
        .merge(tasks::routes())
        .merge(leases::routes())
        .merge(holds::routes())
        .merge(targets::routes())
        .merge(policies::routes())
        .merge(explain::routes())
        .merge(journal::routes())
        .merge(authorities::routes());
    routes.layer(middleware::from_fn_with_state(api.clone(), gate)).with_state(api)
}

/// Every request is authorised here, before any handler sees it. A local caller that is refused leaves a record.
async fn gate(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let peer = request.extract_parts::<Extension<Peer>>().await;
    let Ok(Extension(peer)) = peer else {
        return Problem::denied("the connection has no peer").into_response();
    };
    match super::operator(&api, &peer) {
        Ok(operator) => {
            request.extensions_mut().insert(Operator(operator));
            next.run(request).await
        }
        Err(problem) => {
            super::record_denial(&api, &peer, request.uri().path()).await;
            problem.into_response()
        }
    }
}
