//! What holds for any bytes read as a JWT or as a key set. Shared by the fuzz target and the tests.

use proto_jose::{Expect, JwksUses, KeySet, claimed_trust_domain, verify_jwt};
use proto_types::{Timestamp, id::parse_trust_domain};

/// When the tokens of the corpus are valid, and for whom.
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const AUDIENCE: &str = "https://errand.example.org";
/// Their key.
const JWKS: &[u8] = include_bytes!("jwt_keys.json");

/// A token that verifies says itself which trust domain it claims, is of one kind only, is for one audience, ends, and
/// has one spelling; a key set that is read is bounded; and no error echoes its input. Answers whether a token verified.
pub fn holds(data: &[u8]) -> bool {
    for uses in [JwksUses::SpiffeBundle, JwksUses::WorkloadApi, JwksUses::Oidc] {
        match KeySet::from_jwks(data, uses) {
            Ok(keys) => assert!(keys.len() <= 128),
            Err(why) => assert!(why.to_string().len() <= 300),
        }
    }
    let Ok(token) = std::str::from_utf8(data) else { return false };
    let keys = KeySet::from_jwks(JWKS, JwksUses::SpiffeBundle).expect("the corpus's key");
    let td = parse_trust_domain("example.org").expect("a good name");
    let svid = |audience: &str| Expect::jwt_svid(audience, td.clone());
    let verified = match verify_jwt(token, &svid(AUDIENCE), &keys, NOW) {
        Ok(verified) => verified,
        Err(why) => {
            assert!(why.to_string().len() <= 300);
            return false;
        }
    };
    let id = verified.spiffe_id().expect("a JWT-SVID's subject is a SPIFFE ID");
    assert_eq!((id.to_string().as_str(), id.trust_domain()), (verified.subject(), &td));
    assert_eq!(claimed_trust_domain(token), Ok(td.clone()));
    assert!(verified.expires_at() > NOW);
    let refused = |expect: &Expect, token: &str, now| verify_jwt(token, expect, &keys, now).is_err();
    assert!(refused(&Expect::task_token(AUDIENCE, AUDIENCE), token, NOW));
    assert!(refused(&svid("https://another.example.org"), token, NOW));
    assert!(refused(&svid(AUDIENCE), token, verified.expires_at()));
    assert!(refused(&svid(AUDIENCE), &format!("{token}A"), NOW));
    assert!(refused(&svid(AUDIENCE), &token[..token.len() - 1], NOW));
    true
}
