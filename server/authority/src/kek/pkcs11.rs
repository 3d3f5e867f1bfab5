//! A KEK in a PKCS#11 token: an AES-256 key that can be used and not taken out (PKCS #11 v2.40, CKM_AES_GCM).
//!
//! Decides which key is taken and that a refused PIN is never tried twice, for a token locks after a few. Each use has a
//! session of its own: a token that went away and came back needs no word from us.

use super::{Failed, KekError, file};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::{Mechanism, aead::GcmParams},
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};
use proto_types::{Secret, id::excerpt};
use serde::{Deserialize, Serialize};
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

const NONCE: usize = 12;
const TAG_BITS: u64 = 128;
const KEY_BYTES: u64 = 32;

/// `[authority.kek_pkcs11]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11Kek {
    /// The library of the token's maker, a shared object.
    pub module: PathBuf,
    /// The label of the token (CKA of the slot's token info), the same at every server.
    pub token: String,
    /// The label of the key, CKA_LABEL.
    pub key: String,
    /// One line, mode 0600: the PIN of the token's user.
    pub pin_file: PathBuf,
}

impl std::fmt::Display for Pkcs11Kek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {:?} in the PKCS#11 token {:?}", self.key, self.token)
    }
}

/// A way to the token.
pub(super) struct Token {
    place: Pkcs11Kek,
    library: Pkcs11,
    /// A token locks after a few wrong PINs: one refusal is the last attempt.
    refused: AtomicBool,
    /// One use at a time: a login is the whole process's, and ends with its last session.
    using: Mutex<()>,
}

impl Token {
    pub(super) async fn open(place: &Pkcs11Kek) -> Result<Self, KekError> {
        let (own, at) = (place.clone(), place.to_string());
        let opened = tokio::task::spawn_blocking(move || Self::load(own)).await;
        let why = |why: String| KekError::Refused { at, why };
        opened.map_err(|e| why.clone()(e.to_string()))?.map_err(why)
    }

    fn load(place: Pkcs11Kek) -> Result<Self, String> {
        let library = Pkcs11::new(&place.module)
            .map_err(|e| format!("{} is no PKCS#11 module: {}", place.module.display(), excerpt(&e.to_string())))?;
        match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            // Another server in this process has it already.
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(e) => return Err(said(&e)),
        }
        let token = Self { place, library, refused: AtomicBool::new(false), using: Mutex::default() };
        token.with(|session, key| token.check(session, key))?;
        Ok(token)
    }

    /// Runs `work` in a session that is logged in, with the key.
    fn with<T>(&self, work: impl FnOnce(&Session, ObjectHandle) -> Result<T, String>) -> Result<T, String> {
        let _one = self.using.lock().unwrap_or_else(PoisonError::into_inner);
        let session = self.library.open_ro_session(self.slot()?).map_err(|e| said(&e))?;
        self.log_in(&session)?;
        work(&session, self.find(&session)?)
    }

    fn slot(&self) -> Result<Slot, String> {
        let slots = self.library.get_slots_with_initialized_token().map_err(|e| said(&e))?;
        let ours = |slot: &Slot| {
            self.library.get_token_info(*slot).is_ok_and(|token| token.label().trim_end() == self.place.token)
        };
        let mut found = slots.into_iter().filter(ours);
        match (found.next(), found.next()) {
            (Some(slot), None) => Ok(slot),
            (None, _) => Err("no slot has a token of this label; set `token` to one that is there".into()),
            (Some(_), Some(_)) => Err("several slots have a token of this label; give the right one another".into()),
        }
    }

    fn log_in(&self, session: &Session) -> Result<(), String> {
        if self.refused.load(Ordering::Relaxed) {
            return Err("the PIN was refused and is not tried again: correct `pin_file` and restart".into());
        }
        let pin = file::line(&self.place.pin_file)
            .map_err(|e| format!("`pin_file` {}: {e}", self.place.pin_file.display()))?;
        match session.login(UserType::User, Some(&AuthPin::from(pin.expose().as_str()))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(e) => {
                let away = matches!(
                    e,
                    Error::Pkcs11(RvError::DeviceError | RvError::DeviceRemoved | RvError::TokenNotPresent, _)
                );
                self.refused.store(!away, Ordering::Relaxed);
                Err(format!("the login failed: {}", said(&e)))
            }
        }
    }

    fn find(&self, session: &Session) -> Result<ObjectHandle, String> {
        let wanted = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Label(self.place.key.clone().into_bytes())];
        match session.find_objects(&wanted).map_err(|e| said(&e))?[..] {
            [key] => Ok(key),
            [] => Err(format!(
                "the token has no secret key of this label; make it once, for all servers: pkcs11-tool --module {} \
                 --token-label {:?} --login --keygen --key-type AES:32 --label {:?} --sensitive",
                self.place.module.display(),
                self.place.token,
                self.place.key
            )),
            ref many => Err(format!("the token has {} secret keys of this label; one is needed", many.len())),
        }
    }

    /// An AES-256 key that can be used and not taken out.
    fn check(&self, session: &Session, key: ObjectHandle) -> Result<(), String> {
        let asked = [AttributeType::KeyType, AttributeType::ValueLen, AttributeType::Extractable];
        for attribute in session.get_attributes(key, &asked).map_err(|e| said(&e))? {
            match attribute {
                Attribute::KeyType(found) if found != KeyType::AES => {
                    return Err("the key is none for AES: make one of the type AES:32".into());
                }
                Attribute::ValueLen(found) if u64::from(found) != KEY_BYTES => {
                    return Err(format!("the key has {found} bytes, not {KEY_BYTES}: make one of the type AES:32"));
                }
                Attribute::Extractable(true) => {
                    return Err("the key may be taken out of the token (CKA_EXTRACTABLE): make one that may not".into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn encrypt(&self, aad: &[u8], plain: &Secret<Vec<u8>>) -> Result<Vec<u8>, Failed> {
        self.with(|session, key| {
            let mut nonce = [0; NONCE];
            SystemRandom::new().fill(&mut nonce).map_err(|_| "there is no randomness".to_string())?;
            let params = GcmParams::new(&mut nonce, aad, TAG_BITS.into()).map_err(|e| said(&e))?;
            let text = session.encrypt(&Mechanism::AesGcm(params), key, plain.expose()).map_err(|e| said(&e))?;
            // Some tokens put a nonce of their own in the place of the one that was given.
            Ok([&nonce[..], &text].concat())
        })
        .map_err(Failed::Away)
    }

    fn decrypt(&self, aad: &[u8], sealed: &[u8]) -> Result<Secret<Vec<u8>>, Failed> {
        let (nonce, text) = sealed.split_at_checked(NONCE).ok_or(Failed::NotAuthentic)?;
        let opened = self.with(|session, key| {
            let mut nonce = nonce.to_vec();
            let params = GcmParams::new(&mut nonce, aad, TAG_BITS.into()).map_err(|e| said(&e))?;
            match session.decrypt(&Mechanism::AesGcm(params), key, text) {
                Ok(plain) => Ok(Some(Secret::new(plain))),
                Err(e) if is_away(&e) => Err(said(&e)),
                // Tokens have several names for a tag that is wrong.
                Err(_) => Ok(None),
            }
        });
        opened.map_err(Failed::Away)?.ok_or(Failed::NotAuthentic)
    }
}

/// Off the async threads: a token answers when it likes.
pub(super) async fn encrypt(token: &Arc<Token>, aad: &[u8], plain: &Secret<Vec<u8>>) -> Result<Vec<u8>, Failed> {
    let (token, aad, plain) = (token.clone(), aad.to_vec(), Secret::new(plain.expose().clone()));
    let done = tokio::task::spawn_blocking(move || token.encrypt(&aad, &plain)).await;
    done.unwrap_or_else(|e| Err(Failed::Away(e.to_string())))
}

pub(super) async fn decrypt(token: &Arc<Token>, aad: &[u8], sealed: &[u8]) -> Result<Secret<Vec<u8>>, Failed> {
    let (token, aad, sealed) = (token.clone(), aad.to_vec(), sealed.to_vec());
    let done = tokio::task::spawn_blocking(move || token.decrypt(&aad, &sealed)).await;
    done.unwrap_or_else(|e| Err(Failed::Away(e.to_string())))
}

/// Whether it is the token that failed, and not the value that is wrong.
fn is_away(e: &Error) -> bool {
    !matches!(
        e,
        Error::Pkcs11(
            RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange
                | RvError::GeneralError
                | RvError::DataInvalid
                | RvError::DataLenRange
                | RvError::FunctionFailed,
            _
        )
    )
}

fn said(e: &Error) -> String {
    excerpt(&e.to_string())
}
