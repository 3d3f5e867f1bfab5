//! Signature algorithms of RFC 7518 section 3.1 that JWT-SVID section 2.1 allows. `none`, HMAC, EdDSA and ES256K are
//! not values of the type: a token that names one is refused before any key is looked at.

use aws_lc_rs::signature as sig;
use josekit::jws::JwsAlgorithm;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alg {
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
}

impl Alg {
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
        }
    }

    /// Exactly the registered spelling: `es256` or `ES256 ` is no algorithm.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }

    pub(crate) fn ecdsa(self) -> Option<&'static sig::EcdsaVerificationAlgorithm> {
        match self {
            Self::Es256 => Some(&sig::ECDSA_P256_SHA256_FIXED),
            Self::Es384 => Some(&sig::ECDSA_P384_SHA384_FIXED),
            Self::Es512 => Some(&sig::ECDSA_P521_SHA512_FIXED),
            _ => None,
        }
    }

    pub(crate) fn rsa(self) -> Option<&'static sig::RsaParameters> {
        match self {
            Self::Rs256 => Some(&sig::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&sig::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&sig::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&sig::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&sig::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&sig::RSA_PSS_2048_8192_SHA512),
            _ => None,
        }
    }
}

impl JwsAlgorithm for Alg {
    fn name(&self) -> &str {
        (*self).name()
    }
    fn box_clone(&self) -> Box<dyn JwsAlgorithm> {
        Box::new(*self)
    }
}
