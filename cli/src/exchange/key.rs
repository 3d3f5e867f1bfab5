//! The caller's own key for a role that is issued for one: its public half, read from a file. Whether it is acceptable is
//! the server's to say; a private key is never sent.

use crate::error::{CliError, Result, read_text};
use proto_types::Secret;
use std::path::Path;

/// Longest file, bytes.
const MAX: u64 = 16 * 1024;

/// Type and key of an OpenSSH line without its comment, which names people and machines; or one base64 text.
pub fn public(path: &Path) -> Result<String> {
    let text: Secret<String> = read_text(path, MAX)?.into();
    parse(text.expose()).map_err(|error| error.at(path.display()))
}

fn parse(text: &str) -> Result<String> {
    if text.contains("PRIVATE KEY") {
        return Err(CliError::usage("--key names a private key, which stays with you")
            .hint("name its public half, the file that ends in .pub"));
    }
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    match (lines.next(), lines.next()) {
        (Some(line), None) => Ok(line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")),
        _ => Err(CliError::usage("--key names a file that is not one line with one public key")
            .hint("make one with `ssh-keygen -t ed25519` and name the file that ends in .pub")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_goes_without_its_comment_and_a_private_one_does_not_go() {
        assert_eq!(parse("ssh-ed25519 AAAA kim@example.org\n").unwrap(), "ssh-ed25519 AAAA");
        assert_eq!(parse("\nMCowBQYDK2VwAyEA\n").unwrap(), "MCowBQYDK2VwAyEA");
        let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
        for bad in [private, "", "\n", "ssh-ed25519 AAAA\nssh-ed25519 BBBB\n"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
