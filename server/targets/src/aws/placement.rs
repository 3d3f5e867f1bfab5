//! A session as the tools of AWS look for it: an endpoint on loopback that answers with it, a region, and a profile for
//! who holds several. No key in a variable or in a file.

use super::{
    answer::Session,
    config::{Config, Role},
};
use crate::secret_file;
use proto_types::{Placement, Secret, Timestamp};
use serde_json::json;

/// The kind's own fields of the answer: JSON text of one object, the keys among them.
pub(super) fn fields(config: &Config, role: &Role, session: &Session, ends: Timestamp) -> Secret<String> {
    let mut fields = json!({
        "access_key_id": session.access_key_id,
        "secret_access_key": session.secret_access_key.expose(),
        "session_token": session.session_token.expose(),
        "expiration": ends,
        "region": config.region,
        "role_arn": role.arn.as_str(),
    });
    if let Some(url) = &config.endpoint_url {
        fields["endpoint_url"] = url.as_str().into();
    }
    Secret::new(fields.to_string())
}

/// Where a client puts it.
pub(super) fn placement(config: &Config, role: &str) -> Vec<Placement> {
    let env = |name: &str, value: &str| Placement::Env { name: name.into(), value: value.into() };
    let mut out = vec![
        Placement::LoopbackHttp {
            variable: "AWS_CONTAINER_CREDENTIALS_FULL_URI".into(),
            token_file_variable: "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE".into(),
            body: json!({
                "AccessKeyId": "${access_key_id}",
                "SecretAccessKey": "${secret_access_key}",
                "Token": "${session_token}",
                "Expiration": "${expiration}",
            }),
        },
        // Some tools know the one, some the other.
        env("AWS_REGION", &config.region),
        env("AWS_DEFAULT_REGION", &config.region),
        env("AWS_CONFIG_FILE", "${DIR}/aws_config"),
    ];
    if let Some(url) = &config.endpoint_url {
        out.push(env("AWS_ENDPOINT_URL", url));
        if let Some(content) = authority(config) {
            let path = format!("{}-ca.pem", config.target);
            out.push(env("AWS_CA_BUNDLE", &format!("${{DIR}}/{path}")));
            out.push(Placement::File { path, content, append: false });
        }
    }
    out.push(Placement::File { path: "aws_config".into(), content: profiles(config, role), append: true });
    out
}

/// The authority that services under `endpoint_url` are verified with. One that became unreadable since is left out.
fn authority(config: &Config) -> Option<String> {
    let text = secret_file::read_line(config.ca_file.as_deref()?, config.secrets_dir.as_deref()).ok()?;
    Some(format!("{}\n", text.expose()))
}

/// By target and role, as several grants are told apart; and by target alone where that is one role only: some tools
/// refuse a file in which a profile stands twice.
fn profiles(config: &Config, role: &str) -> String {
    let mut names = vec![format!("{}/{role}", config.target)];
    if config.roles.len() == 1 {
        names.push(config.target.clone());
    }
    let mut text = String::new();
    for name in names {
        text.push_str(&format!(
            "[profile {name}]\ncredential_process = \"${{ERRAND}}\" exchange {}/{role} --as aws\nregion = {}\n",
            config.target, config.region
        ));
        if let Some(url) = &config.endpoint_url {
            text.push_str(&format!("endpoint_url = {url}\n"));
        }
        if config.endpoint_url.is_some() && config.ca_file.is_some() {
            text.push_str(&format!("ca_bundle = ${{DIR}}/{}-ca.pem\n", config.target));
        }
        text.push('\n');
    }
    text
}
