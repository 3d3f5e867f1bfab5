//! The answers of a streaming call: one at a time, so that a reader that is slow holds back its own stream and costs no
//! more than one message.

use agent_core::admission::Permit;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

/// What a streaming call returns.
pub struct Answers<T> {
    messages: mpsc::Receiver<Result<T, Status>>,
    // The uid's place for this stream.
    _permit: Permit,
}

impl<T> Answers<T> {
    pub fn channel(permit: Permit) -> (mpsc::Sender<Result<T, Status>>, Self) {
        let (tx, messages) = mpsc::channel(1);
        (tx, Self { messages, _permit: permit })
    }
}

impl<T> Stream for Answers<T> {
    type Item = Result<T, Status>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().messages.poll_recv(cx)
    }
}
