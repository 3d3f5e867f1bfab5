//! The signing keys of a store under another key-encryption key: the same keys, sealed anew.

use crate::{
    kek::Kek,
    keyring::{KeyringError, Realm},
    seal,
};
use server_core::ports::AuthorityRow;

/// The rows that are not sealed with `new` yet, sealed with it; all of them, or none. Keys that verify only are among them:
/// what is not opened now could not be opened later.
pub async fn rekey(
    rows: Vec<AuthorityRow>,
    realm: &Realm,
    old: &Kek,
    new: &Kek,
) -> Result<Vec<AuthorityRow>, KeyringError> {
    let mut sealed = Vec::new();
    for row in rows {
        let place = realm.place(&row.id);
        let problem = |source| KeyringError::Sealed { id: row.id.clone(), source };
        if seal::is_sealed_with(new, &row.sealed) {
            seal::open(new, &place, &row.sealed).await.map_err(problem)?;
            continue;
        }
        let pkcs8 = seal::open(old, &place, &row.sealed).await.map_err(problem)?;
        let blob = seal::seal(new, &place, &pkcs8).await.map_err(problem)?;
        sealed.push(AuthorityRow { sealed: blob, ..row });
    }
    Ok(sealed)
}
