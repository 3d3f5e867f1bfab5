//! The four messages of the conversation, JSON; bytes are base64 as Go's encoder writes them. Decides their form only.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Bytes in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        STANDARD.decode(text.as_bytes()).map(Self).map_err(|_| D::Error::custom("bytes are not base64"))
    }
}

/// The opening payload.
#[derive(Serialize, Deserialize)]
pub(super) struct Chain {
    /// DER, leaf first.
    pub(super) certificates: Vec<Bytes>,
}

/// Exactly one of the two, by the leaf's kind of key.
#[derive(Serialize, Deserialize)]
pub(super) struct Challenge {
    #[serde(default)]
    pub(super) rsa_signature: Option<Nonce>,
    #[serde(default)]
    pub(super) ecdsa_signature: Option<Nonce>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Nonce {
    pub(super) nonce: Bytes,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Response {
    #[serde(default)]
    pub(super) rsa_signature: Option<RsaResponse>,
    #[serde(default)]
    pub(super) ecdsa_signature: Option<EcdsaResponse>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RsaResponse {
    pub(super) nonce: Bytes,
    pub(super) signature: Bytes,
}

/// `r` and `s` big-endian, without leading zeros.
#[derive(Serialize, Deserialize)]
pub(super) struct EcdsaResponse {
    pub(super) nonce: Bytes,
    pub(super) r: Bytes,
    pub(super) s: Bytes,
}
