//! `kind = "file"`: lines appended to a regular file and synced before they count as taken.
//!
//! The file is opened anew for each batch, so that a rotated file is let go at once, and looked at each time: what is
//! no plain file of data (a link, a FIFO, a device, a directory, a program) is refused. Writing is a thread's of its
//! own: a disk that hangs holds up this sink and nothing else, not even the end of the process.

mod append;

use crate::{Place, section::Section};
use append::append;
use proto_types::{Clock, Fut};
use server_core::{
    journal::Format,
    ports::{Batch, Sink, SinkError},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::{mpsc, oneshot};

#[derive(Debug)]
struct FilePlace {
    path: PathBuf,
    format: Format,
}

pub(crate) fn read(section: &mut Section) -> Option<Arc<dyn Place>> {
    let format = section.format();
    let text = section.required("path", "/var/log/errand/journal.jsonl")?;
    let path = section.path_of("path", text)?;
    match append::look(&path) {
        Ok(()) => Some(Arc::new(FilePlace { path, format })),
        Err(why) => {
            section.problem(format!("`path`: {why}"));
            None
        }
    }
}

impl Place for FilePlace {
    fn open(&self, _: Arc<dyn Clock>) -> Result<Arc<dyn Sink>, SinkError> {
        let (jobs, mut queue) = mpsc::channel::<Job>(1);
        let path = self.path.clone();
        let write = move || {
            while let Some(Job { bytes, reply }) = queue.blocking_recv() {
                // Who no longer waits gave the batch up and brings it again.
                if !reply.is_closed() {
                    let _ = reply.send(append(&path, &bytes));
                }
            }
        };
        let started = std::thread::Builder::new().name("journal-file".into()).spawn(write);
        started.map_err(|e| SinkError::Refused { at: "a thread".into(), why: e.to_string() })?;
        Ok(Arc::new(FileSink { at: self.path.display().to_string(), format: self.format, jobs }))
    }
    fn file(&self) -> Option<&Path> {
        Some(&self.path)
    }
}

struct Job {
    bytes: Vec<u8>,
    reply: oneshot::Sender<Result<(), String>>,
}

struct FileSink {
    at: String,
    format: Format,
    jobs: mpsc::Sender<Job>,
}

impl Sink for FileSink {
    fn deliver<'a>(&'a self, batch: &'a Batch) -> Fut<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let mut bytes = Vec::new();
            for line in batch.lines(self.format) {
                bytes.extend_from_slice(line.as_bytes());
                bytes.push(b'\n');
            }
            let (reply, answer) = oneshot::channel();
            // One batch at most waits behind one that hangs.
            self.jobs.try_send(Job { bytes, reply }).map_err(|_| SinkError::Busy { at: self.at.clone() })?;
            let refused = |why: String| SinkError::Refused { at: self.at.clone(), why };
            answer.await.map_err(|_| refused("its thread has ended; restart the server".into()))?.map_err(refused)
        })
    }
}
