//! As much HTTP as one form and one answer need; a connection each.

use super::{Call, Shared, verify};
use std::sync::{Arc, PoisonError};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

const MAX_REQUEST: usize = 256 * 1024;

#[derive(Clone)]
pub(super) enum Behaviour {
    Verify,
    Raw(Vec<u8>),
    Changed(String, String),
    Hang,
    Close,
}

pub(super) async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), shared.clone());
        tokio::spawn(async move {
            match tls {
                None => converse(tcp, &shared).await,
                // A client that does not believe the certificate hangs up here.
                Some(tls) => match tls.accept(tcp).await {
                    Ok(stream) => converse(stream, &shared).await,
                    Err(_) => None,
                },
            }
        });
    }
}

/// `None`: the client went away or sent no form.
async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) -> Option<()> {
    let body = request(&mut stream).await?;
    let form: Call = url::form_urlencoded::parse(&body).into_owned().collect();
    shared.calls.lock().unwrap_or_else(PoisonError::into_inner).push(form.clone());
    let behaviour = shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let verified = || {
        let (status, xml) = verify::answer(&form, &mut shared.trust.lock().unwrap_or_else(PoisonError::into_inner));
        (status, xml)
    };
    let answer = match behaviour {
        Behaviour::Verify => {
            let (status, xml) = verified();
            response(status, &xml)
        }
        Behaviour::Changed(from, to) => {
            let (status, xml) = verified();
            response(status, &xml.replace(&from, &to))
        }
        Behaviour::Raw(bytes) => bytes,
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Close => return None,
    };
    stream.write_all(&answer).await.ok()?;
    stream.shutdown().await.ok()
}

async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        read_more(stream, &mut bytes).await?;
    };
    let text = std::str::from_utf8(&bytes[..head]).ok()?.to_ascii_lowercase();
    if !text.starts_with("post / http/1.1\r\n") {
        return None;
    }
    let length: usize = text.lines().find_map(|l| l.strip_prefix("content-length:"))?.trim().parse().ok()?;
    while bytes.len() < head + length {
        read_more(stream, &mut bytes).await?;
    }
    Some(bytes[head..head + length].to_vec())
}

async fn read_more(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(bytes).await.ok()?;
    (read > 0 && bytes.len() <= MAX_REQUEST).then_some(())
}

/// A whole response.
pub(super) fn response(status: u16, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: text/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
