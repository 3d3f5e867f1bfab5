//! `kind = "syslog"`: each record a message of RFC 5424, to a unix datagram socket, over TCP or by UDP.
//!
//! Decides what the section may say. Only a stream tells that its messages arrived; a datagram is as reliable as its
//! way, and one that is too long for it is an error, not cut.

mod address;
mod carry;
mod message;

#[cfg(test)]
mod tests;

use crate::{Place, section::Section};
use address::Address;
use carry::carry;
use message::{FACILITIES, Facility, Speaker};
use proto_types::{Clock, Fut};
use server_core::{
    journal::Format,
    ports::{Batch, Sink, SinkError},
};
use std::{os::unix::fs::FileTypeExt as _, path::Path, sync::Arc};

#[derive(Debug)]
struct SyslogPlace {
    address: Address,
    facility: Facility,
    format: Format,
}

pub(crate) fn read(section: &mut Section) -> Option<Arc<dyn Place>> {
    let format = section.format();
    let facility = section.choice("facility", &FACILITIES);
    let text = section.required("address", "unix:/dev/log")?;
    let address = Address::parse(&text).map_err(|why| section.problem(format!("`address` {why}"))).ok()?;
    if let Address::Unix(path) = &address {
        let path = section.path_of("address", path.display().to_string())?;
        if !may_be_socket(&path) {
            section.problem("`address`: what is there is no socket");
        }
    }
    Some(Arc::new(SyslogPlace { address, facility, format }))
}

/// A daemon that is not there yet may come; a link to its socket is usual.
fn may_be_socket(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |meta| meta.file_type().is_socket())
}

impl Place for SyslogPlace {
    fn open(&self, _: Arc<dyn Clock>) -> Result<Arc<dyn Sink>, SinkError> {
        let speaker = Speaker::new(self.facility);
        Ok(Arc::new(SyslogSink { address: self.address.clone(), format: self.format, speaker }))
    }
}

struct SyslogSink {
    address: Address,
    format: Format,
    speaker: Speaker,
}

impl Sink for SyslogSink {
    fn deliver<'a>(&'a self, batch: &'a Batch) -> Fut<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let lines = batch.records.iter().zip(batch.lines(self.format));
            let messages: Vec<_> = lines.map(|(out, line)| self.speaker.message(&out.record, &line)).collect();
            let refused = |e: std::io::Error| SinkError::Refused { at: self.address.to_string(), why: e.to_string() };
            carry(&self.address, &messages).await.map_err(refused)
        })
    }
}
