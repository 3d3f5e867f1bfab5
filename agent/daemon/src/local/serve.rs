//! Serving the agent's socket: the Workload API, `errand.v1.Agent` and `errand.v1.Task`, with small buffers and bounds.

use super::{
    LocalConn, Peer,
    admit::{Gate, admit, pause_after},
    info::InfoService,
};
use crate::{
    shared::Shared,
    shim::Shim,
    tasks::TaskService,
    workload_api::{WorkloadService, check_header},
};
use futures_util::stream;
use proto_wire::{
    errand::v1::{agent_server::AgentServer, task_server::TaskServer},
    workload::spiffe_workload_api_server::SpiffeWorkloadApiServer,
};
use std::{io, sync::Arc, time::Duration};
use tokio::net::UnixListener;
use tonic::{service::interceptor::InterceptedService, transport::Server};

/// Largest request: a JWT-SVID to validate, with room.
const MAX_REQUEST: usize = 64 * 1024;
const MAX_HEADERS: u32 = 16 * 1024;
const WINDOW: u32 = 64 * 1024;
const STREAMS_PER_CONNECTION: u32 = 128;
/// How long a connection may stand open without the HTTP/2 preface.
const PATIENCE: Duration = Duration::from_secs(30);
const PING_EVERY: Duration = Duration::from_secs(60);

/// Serves until the agent stops.
pub async fn serve(
    shared: Arc<Shared>,
    listener: UnixListener,
    gate: Arc<Gate>,
) -> Result<(), tonic::transport::Error> {
    let workload = SpiffeWorkloadApiServer::new(WorkloadService { shared: shared.clone() });
    let tasks = InterceptedService::new(
        TaskServer::new(TaskService { shared: shared.clone() }).max_decoding_message_size(MAX_REQUEST),
        with_header,
    );
    let info = InterceptedService::new(
        AgentServer::new(InfoService { shared: shared.clone() }).max_decoding_message_size(MAX_REQUEST),
        with_header,
    );
    let accepted = stream::unfold((listener, shared.clone(), gate), |(listener, shared, gate)| async move {
        let conn = accept(&listener, &shared, &gate).await;
        Some((Ok::<_, io::Error>(conn), (listener, shared, gate)))
    });
    Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_keepalive_interval(Some(PING_EVERY))
        .add_service(workload.max_decoding_message_size(MAX_REQUEST))
        .add_service(tasks)
        .add_service(info)
        .serve_with_incoming_shutdown(accepted, shared.stop.clone().cancelled_owned())
        .await
}

/// The next connection whose peer the kernel vouches for and that has a place.
async fn accept(listener: &UnixListener, shared: &Shared, gate: &Arc<Gate>) -> Shim<LocalConn> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match admit(shared, gate, &stream) {
                Ok((caller, permit)) => {
                    let peer = Peer::new(caller, gate.clone(), permit);
                    return Shim::new(LocalConn::new(stream, peer, shared.ports.clock.sleep(PATIENCE)));
                }
                // Counted by nobody, answered with a closed connection: a flood must cost less than it costs the peer.
                Err(why) => tracing::debug!(%why, "a peer was refused"),
            },
            Err(e) => pause_after(shared, "the agent's socket", &e).await,
        }
    }
}

/// The house's own services on this socket demand the header too: nothing that a browser or a proxy can be made to send
/// starts or ends a task.
fn with_header(request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
    check_header(&request).map(|()| request)
}
