//! Many workloads at one agent: each a connection of its own with an open stream of X.509-SVIDs.

use crate::{
    client::channel::SecurityHeader,
    house::{House, PERSON},
    machine,
    report::{Report, Row, Target, Unit},
    stopwatch::now,
};
use anyhow::{Context, Result, ensure};
use proto_wire::workload::{X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient};
use std::{path::Path, time::Duration};
use tonic::{Streaming, transport::Channel};

const STREAMS: usize = 1000;

/// One workload: its connection and what it reads from.
struct Workload {
    _connection: Channel,
    stream: Streaming<X509svidResponse>,
}

pub async fn run(dir: &Path, idle: Duration, report: &mut Report) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut house = House::start(dir, "").await?;
    house.start_agent().await?;
    house.create_entry(PERSON, None).await?;
    let mut first = open(&house).await?;
    let empty = house.agent_memory()?.now;
    let begin = now();
    let mut workloads = Vec::with_capacity(STREAMS);
    while workloads.len() + 1 < STREAMS {
        workloads.push(open(&house).await?);
    }
    let took = now() - begin;
    let (percent, memory) = (machine::idle(idle, || house.agent_cpu()).await?, house.agent_memory()?);
    let row = Row::new(format!("agent: resident with {STREAMS} workload streams"), Unit::Mebibytes, memory.most);
    report.add(row.of("with one", empty).target(Target::AtMost(64.0)));
    let row = Row::new("agent: CPU with these, idle", Unit::Percent, percent);
    report.add(row.target(Target::AtMost(2.0)));
    let each = took.as_secs_f64() * 1e3 / (STREAMS - 1) as f64;
    report.add(Row::new("agent: connecting, attested, first SVID in hand", Unit::Millis, each));
    changed(&house, &mut first, &mut workloads, report).await?;
    report.note(format!("{STREAMS} workload streams: as many connections, all of one process and one identity"));
    drop((first, workloads));
    house.stop().await
}

/// A connection and its first message.
async fn open(house: &House) -> Result<Workload> {
    let connection = house.agent_channel().await?;
    let mut api = SpiffeWorkloadApiClient::with_interceptor(connection.clone(), SecurityHeader);
    // The first of all may be there before the agent has heard of its entry.
    for _ in 0..200 {
        match api.fetch_x509svid(X509svidRequest {}).await {
            Ok(answer) => {
                let mut stream = answer.into_inner();
                match stream.message().await {
                    Ok(first) => {
                        ensure!(first.is_some_and(|m| !m.svids.is_empty()), "a stream begins with an SVID");
                        return Ok(Workload { _connection: connection, stream });
                    }
                    Err(status) if status.code() == tonic::Code::PermissionDenied => {}
                    Err(status) => return Err(status.into()),
                }
            }
            Err(status) if status.code() == tonic::Code::PermissionDenied => {}
            Err(status) => return Err(status.into()),
        }
        crate::stopwatch::until(now() + Duration::from_millis(10)).await;
    }
    anyhow::bail!("the agent does not hear of its entry")
}

/// One more identity for all of them: how long until the last has it.
async fn changed(house: &House, first: &mut Workload, others: &mut [Workload], report: &mut Report) -> Result<()> {
    let (begin, before) = (now(), house.agent_cpu()?);
    house.create_entry("/bench/second", None).await?;
    for workload in std::iter::once(first).chain(others) {
        let message = workload.stream.message().await?.context("the agent ended a stream")?;
        ensure!(message.svids.len() == 2, "{} SVIDs", message.svids.len());
    }
    let (took, used) = (now() - begin, house.agent_cpu()? - before);
    report.add(Row::new("agent: a new SVID in the hands of all of these", Unit::Millis, took.as_secs_f64() * 1e3));
    let each = used * 1e6 / STREAMS as f64;
    report.add(Row::new("  a new SVID, the agent's CPU each stream", Unit::Micros, each));
    Ok(())
}
