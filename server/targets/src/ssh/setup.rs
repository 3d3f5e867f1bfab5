//! Texts for people: a host's own side of the arrangement, and the way to end everything of ours without us.

use proto_types::TargetDoc;
use serde_json::Value;
use std::collections::BTreeSet;

/// What an administrator does once on each host.
pub(super) fn setup(doc: &TargetDoc) -> String {
    let roles = doc.body.get("role").and_then(Value::as_array).into_iter().flatten();
    let principals: BTreeSet<&str> =
        roles.filter_map(|r| r.get("principals")?.as_array()).flatten().filter_map(Value::as_str).collect();
    let users = principals.into_iter().collect::<Vec<_>>().join(", ");
    format!(
        "# Once on each host, as root. The first command runs where `errand` reaches the server; copy its output over.\n\
         errand authority ssh show --public > /etc/ssh/errand_ca.pub\n\
         # In /etc/ssh/sshd_config; then reload sshd. Certificates log in as: {users}\n\
         TrustedUserCAKeys /etc/ssh/errand_ca.pub\n\
         # Logs the id of each certificate, which `errand who` resolves.\n\
         LogLevel VERBOSE\n\
         # After `errand authority ssh prepare`, and before `activate`: write the file again, so that hosts know both keys.\n"
    )
}

/// Certificates die within five minutes; who cannot wait takes the authority away.
pub(super) fn by_hand(store_id: &str) -> String {
    let prefix = proto_types::CredentialName::prefix(store_id);
    format!(
        "# On each host, as root: refuses every certificate of ours from the next login on.\n\
         : > /etc/ssh/errand_ca.pub\n\
         # Sessions that were logged in with one; sshd logged their ids, which begin with {prefix}\n\
         journalctl -u ssh -g 'ID {prefix}'\n\
         # End the sessions of a user who is one of the principals.\n\
         pkill -HUP -u USER sshd\n"
    )
}
