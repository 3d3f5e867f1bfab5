//! From a request to a certificate in the caller's hand: read the key, fill the template, sign, read it back.

use super::{
    TOKEN_TYPE,
    certificate::{self, Template},
    config::{Config, Role},
    key::CallersKey,
};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use proto_types::{CredentialName, Placement, Secret, Timestamp};
use serde_json::{Value, json};
use server_core::ports::{IssueError, IssueRequest, Issued, KindContext, PublicKey, SignError};
use std::time::Duration;

/// Hosts whose clock is behind ours by less accept the certificate at once.
const BACKDATE: Duration = Duration::from_secs(30);
/// Longest key id, bytes: what sshd logs of it fits one line.
const MAX_KEY_ID: usize = 1024;

pub(super) async fn mint(config: &Config, context: &KindContext, request: &IssueRequest) -> Result<Issued, IssueError> {
    let refuse = |why: String| IssueError::Refused { why };
    if CredentialName::recognise(&context.store_id, request.name.as_str()).is_none() {
        return Err(refuse(format!("{} is no name of this installation", request.name)));
    }
    let role = config.roles.get(&request.role).ok_or_else(|| refuse("no such role".into()))?;
    if request.params != Value::Null {
        return Err(refuse("an ssh role takes no parameters of its own; send the key alone".into()));
    }
    let signer = context.ssh.public().ok_or_else(|| failed(&SignError::NoActiveKey("ssh")))?;
    let ca = wire_form(&signer)?;
    let line = request.key.as_deref().ok_or_else(|| refuse("public_key is missing".into()))?;
    let key = CallersKey::read(line, &ca).map_err(|e| refuse(e.to_string()))?;
    let template = template(role, &key, context, request);
    let signed = template.to_sign(&ca);
    let signature = context.ssh.sign(&signer.kid, &signed).await.map_err(|e| failed(&e))?;
    // A key manager that answers with a bad signature is found here and not on the host.
    let raw = raw(&signer).ok_or_else(|| failed(&SignError::Unavailable("no Ed25519 key".into())))?;
    UnparsedPublicKey::new(&ED25519, raw)
        .verify(&signed, &signature)
        .map_err(|_| failed(&SignError::Refused("the key manager's signature does not verify".into())))?;
    let finished = certificate::finish(signed, &signature);
    template.lint(&finished, &ca).map_err(|e| failed(&SignError::Refused(e.to_string())))?;
    Ok(issued(config, role, &template, &finished, &ca))
}

fn failed(error: &SignError) -> IssueError {
    IssueError::Unknown { why: error.to_string() }
}

/// The 32 bytes of an Ed25519 SubjectPublicKeyInfo, which ends with them.
fn raw(signer: &PublicKey) -> Option<&[u8; 32]> {
    signer.spki_der.last_chunk::<32>().filter(|_| signer.spki_der.len() == 44)
}

fn wire_form(signer: &PublicKey) -> Result<Vec<u8>, IssueError> {
    raw(signer).map(certificate::ed25519).ok_or_else(|| failed(&SignError::Unavailable("no Ed25519 key".into())))
}

fn template<'a>(role: &'a Role, key: &'a CallersKey, context: &KindContext, request: &IssueRequest) -> Template<'a> {
    let (mut nonce, mut serial) = ([0; 32], [0; 8]);
    context.entropy.fill(&mut nonce);
    context.entropy.fill(&mut serial);
    let mut options = Vec::new();
    if let Some(command) = &role.force_command {
        options.push(("force-command", command.clone()));
    }
    if !role.source_address.is_empty() {
        options.push(("source-address", role.source_address.join(",")));
    }
    Template {
        key,
        nonce,
        // Random, so that restored and cloned stores never repeat one; 0 means "none" to revocation lists.
        serial: u64::from_be_bytes(serial).max(1),
        key_id: key_id(request),
        principals: &role.principals,
        valid_after: Timestamp::from_secs(request.now.minus(BACKDATE).as_secs()),
        valid_before: Timestamp::from_secs(request.not_after.as_secs()),
        options,
        extensions: &role.extensions,
    }
}

/// What a host logs at a login: enough to ask `errand who`. A user's own text cannot break the line or add a field.
fn key_id(request: &IssueRequest) -> String {
    let word = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_graphic() && c != '"' && c != '\\' { c } else { '_' }).collect()
    };
    let user = request.user.as_deref().map(|u| format!(" user={}", word(u))).unwrap_or_default();
    let mut id =
        format!("{} task={} workload={}{user}", request.name, request.task, word(&request.workload.to_string()));
    id.truncate(MAX_KEY_ID);
    id
}

fn issued(config: &Config, role: &Role, template: &Template<'_>, finished: &[u8], ca: &[u8]) -> Issued {
    let line = format!("{} {}", certificate::format_of(&template.key.algorithm), STANDARD.encode(finished));
    let ca = ssh_key::PublicKey::from_bytes(ca).map(|k| k.fingerprint(ssh_key::HashAlg::Sha256).to_string());
    let ca = ca.unwrap_or_default();
    let serial = template.serial.to_string();
    let fields = json!({
        "certificate": line, "principals": role.principals, "host": config.host, "port": config.port,
        "valid_before": template.valid_before, "serial": serial, "ca": ca,
    });
    Issued {
        fields: Secret::new(fields.to_string()),
        access_token: Secret::new(line),
        token_type: TOKEN_TYPE,
        placement: vec![Placement::SshAgent { variable: "SSH_AUTH_SOCK".into() }],
        // A serial as text: JSON readers round what is above 2^53.
        handle: json!({ "serial": serial, "ca": ca, "key": template.key.fingerprint, "target": config.target }),
        not_after: template.valid_before,
    }
}
