//! Passwords and their SCRAM-SHA-256 verifiers (RFC 5803), made here so that no statement ever carries a password.

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use proto_types::{Entropy, Secret};
use std::num::NonZeroU32;

/// What PostgreSQL itself uses (RFC 7677 asks for at least this many).
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("4096 is not zero");
const SALT_BYTES: usize = 16;

/// 256 random bits, 43 characters of the URL-safe alphabet: nothing to quote anywhere, nothing for SASLprep to change.
pub(super) fn password(entropy: &dyn Entropy) -> Secret<String> {
    let mut bytes = [0u8; 32];
    entropy.fill(&mut bytes);
    Secret::new(URL_SAFE_NO_PAD.encode(bytes))
}

/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, which the server stores as it is.
pub(super) fn verifier(password: &Secret<String>, entropy: &dyn Entropy) -> Secret<String> {
    let mut salt = [0u8; SALT_BYTES];
    entropy.fill(&mut salt);
    Secret::new(verifier_with(password.expose(), &salt))
}

fn verifier_with(password: &str, salt: &[u8]) -> String {
    let mut salted = [0u8; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, salt, password.as_bytes(), &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let stored = digest::digest(&digest::SHA256, hmac::sign(&key, b"Client Key").as_ref());
    let server = hmac::sign(&key, b"Server Key");
    let (salt, stored, server) = (STANDARD.encode(salt), STANDARD.encode(stored), STANDARD.encode(server));
    format!("SCRAM-SHA-256${ITERATIONS}:{salt}${stored}:{server}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of RFC 7677, section 3: user `user`, password `pencil`, with its own salt and 4096 iterations. The
    /// stored key proves the client of that example, the server key its server signature.
    #[test]
    fn the_verifier_agrees_with_the_example_exchange_of_the_standard() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let text = verifier_with("pencil", &salt);
        let (stored, server) = text.rsplit_once('$').unwrap().1.split_once(':').unwrap();
        let auth_message = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let server = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(server).unwrap());
        let signature = STANDARD.encode(hmac::sign(&server, auth_message.as_bytes()));
        assert_eq!(signature, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let stored = STANDARD.decode(stored).unwrap();
        let mask = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &stored), auth_message.as_bytes());
        let proof = STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").unwrap();
        let client_key: Vec<u8> = proof.iter().zip(mask.as_ref()).map(|(a, b)| a ^ b).collect();
        assert_eq!(digest::digest(&digest::SHA256, &client_key).as_ref(), stored);
    }
}
