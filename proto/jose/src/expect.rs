//! What a verifier demands of one kind of token. Kinds share no `typ`, so that none passes for another.

use crate::alg::Alg;
use proto_types::TrustDomain;
use std::time::Duration;

/// The longest leeway a verifier may grant.
const MAX_LEEWAY: Duration = Duration::from_secs(10);

/// Who `sub` must be.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// Present and not empty.
    Any,
    /// A SPIFFE ID of this trust domain, whose keys are the ones in use (JWT-SVID section 3.1).
    MemberOf(TrustDomain),
}

/// What `aud` must say. It is always present, and made of strings.
#[derive(Clone, Debug)]
pub(crate) enum Audience {
    /// This one, perhaps among others.
    Among(String),
    /// This one and nothing else.
    Only(String),
    /// Whoever it is: the caller looks at it.
    Any,
}

/// The demands on one token.
#[derive(Clone, Debug)]
pub struct Expect {
    pub(crate) typs: &'static [&'static str],
    pub(crate) algs: &'static [Alg],
    pub(crate) audience: Audience,
    pub(crate) issuer: Option<String>,
    pub(crate) subject: Subject,
    pub(crate) leeway: Duration,
    /// `exp - iat`; demands `iat`.
    pub(crate) max_life: Option<Duration>,
    pub(crate) jti: bool,
}

impl Expect {
    /// A JWT-SVID of `trust_domain` for `audience` (JWT-SVID sections 2 and 3): `typ` absent, `JWT` or `JOSE`.
    pub fn jwt_svid(audience: impl Into<String>, trust_domain: TrustDomain) -> Self {
        Self {
            typs: &["", "JWT", "JOSE"],
            algs: &Alg::ALL,
            audience: Audience::Among(audience.into()),
            issuer: None,
            subject: Subject::MemberOf(trust_domain),
            leeway: Duration::ZERO,
            max_life: None,
            jti: false,
        }
    }

    /// A task token of `issuer` for `audience`: `at+jwt` (RFC 9068 section 2.1), ES256, at most five minutes.
    pub fn task_token(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            typs: &["at+jwt", "application/at+jwt"],
            algs: &[Alg::Es256],
            audience: Audience::Among(audience.into()),
            issuer: Some(issuer.into()),
            subject: Subject::Any,
            leeway: Duration::ZERO,
            max_life: Some(Duration::from_secs(300)),
            jti: true,
        }
    }

    /// An ID token or other JWT of an OIDC issuer (OpenID Connect Core section 2): `typ` absent or `JWT`.
    pub fn oidc(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            typs: &["", "JWT"],
            algs: &Alg::ALL,
            audience: Audience::Among(audience.into()),
            issuer: Some(issuer.into()),
            subject: Subject::Any,
            leeway: Duration::ZERO,
            max_life: None,
            jti: false,
        }
    }

    /// A JWT-SVID of `trust_domain` that authenticates a client to `audience`: for it alone, so that nobody else who was
    /// sent it can send it on; at most five minutes long, and with a `jti` that can be spent.
    pub fn client_assertion(audience: impl Into<String>, trust_domain: TrustDomain) -> Self {
        Self {
            audience: Audience::Only(audience.into()),
            max_life: Some(Duration::from_secs(300)),
            jti: true,
            ..Self::jwt_svid("", trust_domain)
        }
    }

    /// Takes any audience: for who answers others' questions about a token, and looks at `aud` itself.
    pub fn any_audience(mut self) -> Self {
        self.audience = Audience::Any;
        self
    }

    /// Clocks that differ: at most 10 s on `exp`, `nbf` and `iat`. Without it, none.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway.min(MAX_LEEWAY);
        self
    }
}
