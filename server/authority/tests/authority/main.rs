//! Keys at work: sealed, rotated, signing, and checked by a reader that is not ours (the `openssl` command).

mod house;
mod keys;
mod mint;
mod rotation;
