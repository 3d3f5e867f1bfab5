//! A KEK in the transit engine of OpenBao or Vault: the service encrypts and decrypts, the key stays there.
//!
//! Decides which answers mean a wrong value and which a service that is away. The engine's own key versions are in what it
//! answers with, so a rotation there needs nothing here.

use super::{Failed, KekError};
use base64::{Engine, engine::general_purpose::STANDARD};
use proto_http::{Client, Endpoint, Method, Question, Reply, Trust, token};
use proto_types::{Clock, Secret, id::excerpt};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, path::PathBuf, sync::Arc, time::Duration};

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest answer that is read, bytes: a sealed key has a few hundred.
const MAX_ANSWER: usize = 64 * 1024;

/// `[authority.kek_transit]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransitKek {
    /// `https://bao.example.org:8200`; http on loopback only.
    pub address: String,
    /// Where the engine is mounted.
    #[serde(default = "mount")]
    pub mount: String,
    /// The key's name, of the type aes256-gcm96.
    pub key: String,
    /// A token that may update `<mount>/encrypt/<key>` and `<mount>/decrypt/<key>`, and read `<mount>/keys/<key>`. Read at
    /// each use: renewing it is the work of an agent of the service.
    pub token_file: PathBuf,
    /// Whom TLS trusts; the system's authorities without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

fn mount() -> String {
    "transit".into()
}

impl std::fmt::Display for TransitKek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/keys/{} at {}", self.mount, self.key, excerpt(&self.address))
    }
}

impl TransitKek {
    /// What is wrong of the section, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.endpoint()?;
        let is_part = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if !self.mount.split('/').all(is_part) {
            return Err("`mount` is not a path such as transit".into());
        }
        if !is_part(&self.key) {
            return Err("`key` is not a name of letters, digits, `-`, `_` and `.`".into());
        }
        Ok(())
    }

    fn endpoint(&self) -> Result<Endpoint, String> {
        let endpoint = Endpoint::parse(&self.address).map_err(|why| format!("`address` {why}"))?;
        if endpoint.target != "/" {
            return Err("`address` is more than a host: write https://bao.example.org:8200".into());
        }
        if !endpoint.tls && self.ca_file.is_some() {
            return Err("`ca_file` says whom TLS trusts, and an http address has none".into());
        }
        Ok(endpoint)
    }
}

/// What of an answer is read. Borrowed: a plaintext stays in the bytes that are wiped.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Option<Data<'a>>,
    #[serde(borrow)]
    errors: Vec<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Data<'a> {
    #[serde(borrow)]
    ciphertext: Option<Cow<'a, str>>,
    #[serde(borrow)]
    plaintext: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    key_type: Option<Cow<'a, str>>,
    derived: bool,
    exportable: bool,
    allow_plaintext_backup: bool,
}

/// The service that holds the key.
pub(super) struct Service {
    place: TransitKek,
    client: Client,
    clock: Arc<dyn Clock>,
}

impl Service {
    /// Looks at the key first, if the token may: a service makes a key that it does not know at the first encryption.
    pub(super) async fn open(place: &TransitKek, clock: Arc<dyn Clock>) -> Result<Self, KekError> {
        let refused = |why: String| KekError::Refused { at: place.to_string(), why };
        place.check().map_err(refused)?;
        let endpoint = place.endpoint().map_err(refused)?;
        let trust = match (&place.ca_file, endpoint.tls) {
            (Some(path), _) => Trust::File(path.clone()),
            (None, true) => Trust::System,
            (None, false) => Trust::Nobody,
        };
        let client = Client::new(endpoint, trust, clock.clone()).map_err(refused)?;
        let service = Self { place: place.clone(), client, clock };
        service.look().await.map_err(refused)?;
        Ok(service)
    }

    async fn look(&self) -> Result<(), String> {
        let target = format!("/v1/{}/keys/{}", self.place.mount, self.place.key);
        let reply = self.ask(Method::GET, &target, Secret::new(String::new())).await?;
        let answer = answer(&reply);
        let key = match (reply.status.as_u16(), answer.data) {
            (200, Some(key)) => key,
            (404, _) => {
                return Err(format!(
                    "there is no such key; make it once, for all servers: bao write -f {}/keys/{} type=aes256-gcm96",
                    self.place.mount, self.place.key
                ));
            }
            _ => return Err(format!("{}; the token needs `read` on {}", refusal(&reply), &target[4..])),
        };
        match key.key_type.as_deref() {
            Some("aes256-gcm96") if key.derived => Err("the key is a derived one; make one without derivation".into()),
            Some("aes256-gcm96") if key.exportable || key.allow_plaintext_backup => {
                Err("the key may be taken out of the service (exportable): make one that may not".into())
            }
            Some("aes256-gcm96") => Ok(()),
            other => Err(format!("the key is of the type {}, not aes256-gcm96", excerpt(other.unwrap_or("unknown")))),
        }
    }

    pub(super) async fn encrypt(&self, aad: &[u8], plain: &Secret<Vec<u8>>) -> Result<Vec<u8>, Failed> {
        let plain = Secret::new(STANDARD.encode(plain.expose()));
        let aad = STANDARD.encode(aad);
        let question = format!(r#"{{"plaintext":"{}","associated_data":"{aad}"}}"#, plain.expose());
        let reply = self.call("encrypt", Secret::new(question)).await?;
        match answer(&reply).data.and_then(|data| data.ciphertext) {
            Some(text) if reply.status == 200 => Ok(text.as_bytes().to_vec()),
            _ => Err(Failed::Away(refusal(&reply))),
        }
    }

    pub(super) async fn decrypt(&self, aad: &[u8], sealed: &[u8]) -> Result<Secret<Vec<u8>>, Failed> {
        // Nothing else is written there, and nothing else is put in a question.
        let is_ours = |text: &&str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b":+/=".contains(&b));
        let text = std::str::from_utf8(sealed).ok().filter(is_ours).ok_or(Failed::NotAuthentic)?;
        let aad = STANDARD.encode(aad);
        let question = format!(r#"{{"ciphertext":"{text}","associated_data":"{aad}"}}"#);
        let reply = self.call("decrypt", Secret::new(question)).await?;
        match (reply.status.as_u16(), answer(&reply).data.and_then(|data| data.plaintext)) {
            (200, Some(text)) => STANDARD.decode(text.as_bytes()).map(Secret::new).map_err(|_| Failed::NotAuthentic),
            // A wrong value is all it answers 400 to.
            (400, _) => Err(Failed::NotAuthentic),
            _ => Err(Failed::Away(refusal(&reply))),
        }
    }

    async fn call(&self, verb: &str, question: Secret<String>) -> Result<Reply, Failed> {
        let target = format!("/v1/{}/{verb}/{}", self.place.mount, self.place.key);
        self.ask(Method::POST, &target, question).await.map_err(Failed::Away)
    }

    async fn ask(&self, method: Method, target: &str, body: Secret<String>) -> Result<Reply, String> {
        let token = token(&self.place.token_file)
            .map_err(|why| format!("`token_file` {}: {why}", self.place.token_file.display()))?;
        let content_type = "application/json";
        let question = Question { method, target, content_type, token: Some(token), body, most: MAX_ANSWER };
        tokio::select! {
            reply = self.client.ask(question) => reply,
            () = self.clock.sleep(ANSWER) => Err(format!("no answer within {} s", ANSWER.as_secs())),
        }
    }
}

/// What is no such JSON says nothing.
fn answer(reply: &Reply) -> Answer<'_> {
    serde_json::from_slice(reply.body.expose()).unwrap_or_default()
}

/// The status, and what the service says of it.
fn refusal(reply: &Reply) -> String {
    let (status, errors) = (reply.status.as_u16(), answer(reply).errors);
    match errors.is_empty() {
        true => format!("it answers {status}"),
        false => format!("it answers {status}: {}", excerpt(&errors.join("; "))),
    }
}
