//! The forms in which one credential is printed. Decides how a form is written, and refuses one that the credential
//! has not the fields for; knows no kind of target by name.

use crate::{
    agent_client::token::Answer,
    run::{DIR, ERRAND, password_url, relative},
};
use proto_types::{CredentialInfo, Placement, Secret};
use serde_json::{Value, json};
use std::path::Path;

/// `--as`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// The whole answer of the token endpoint
    Json,
    /// Lines for a shell to evaluate
    Env,
    /// What a `credential_process` of the AWS tools prints
    Aws,
    /// An SSH certificate, one line
    Ssh,
    /// A line of a PostgreSQL password file
    Pgpass,
}

/// A form that this credential has not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("role kind `{kind}` has no {form} form: use --as json")]
pub struct NoForm {
    kind: String,
    form: &'static str,
}

/// Variables that name a file of secrets, the field whose value it holds, and the variable for the value itself: without
/// a private directory there is nowhere to put the file.
const VALUE_INSTEAD_OF_FILE: [(&str, &str, &str); 1] = [("PGPASSFILE", "password", "PGPASSWORD")];

/// Files that only say what other variables say too.
const SAID_OTHERWISE: [&str; 2] = ["PGSERVICEFILE", "AWS_CONFIG_FILE"];

/// The same for a variable that names an endpoint, of which there is none either: fields, and the variables for them.
const VALUES_INSTEAD_OF_ENDPOINT: [(&str, &[(&str, &str)]); 1] = [(
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    &[
        ("access_key_id", "AWS_ACCESS_KEY_ID"),
        ("secret_access_key", "AWS_SECRET_ACCESS_KEY"),
        ("session_token", "AWS_SESSION_TOKEN"),
    ],
)];

/// The text, with its last line ended. `errand` is this program.
pub fn render(answer: &Answer, form: Form, errand: &Path) -> Result<Secret<String>, NoForm> {
    let credential = &answer.credential;
    let (text, form) = match form {
        Form::Json => (Some(String::from_utf8_lossy(answer.body.expose()).trim_end().to_string()), "json"),
        Form::Env => (env(credential, errand), "env"),
        Form::Aws => (aws(credential), "aws"),
        Form::Ssh => (field(credential, "certificate").map(|line| line.trim_end().to_string()), "ssh"),
        Form::Pgpass => (pgpass(credential), "pgpass"),
    };
    let text = text.ok_or_else(|| NoForm { kind: credential.kind.clone(), form })?;
    Ok(Secret::new(text + "\n"))
}

/// The variables a program would be given, except those that name files and sockets.
fn env(credential: &CredentialInfo, errand: &Path) -> Option<String> {
    let mut lines = Vec::new();
    for placement in &credential.placement {
        match placement {
            Placement::Env { name, value } if !value.contains(DIR) => {
                let value = value.replace(ERRAND, &errand.to_string_lossy());
                lines.push(export(name, &password_url(&value, credential).unwrap_or(value)));
            }
            Placement::Env { name, .. } => {
                let instead = VALUE_INSTEAD_OF_FILE.iter().find(|(file, ..)| file == name);
                let value = instead.and_then(|(_, secret, variable)| Some((variable, field(credential, secret)?)));
                lines.extend(value.map(|(variable, value)| export(variable, value)));
            }
            Placement::LoopbackHttp { variable, .. } => {
                let values = instead_of_endpoint(credential, variable).unwrap_or_default();
                lines.extend(values.into_iter().map(|(variable, value)| export(variable, value)));
            }
            _ => {}
        }
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// The variables that say what the endpoint `variable` would; all of them or none.
fn instead_of_endpoint<'a>(credential: &'a CredentialInfo, variable: &str) -> Option<Vec<(&'static str, &'a str)>> {
    let (_, values) = VALUES_INSTEAD_OF_ENDPOINT.iter().find(|(endpoint, _)| *endpoint == variable)?;
    values.iter().map(|(name, variable)| Some((*variable, field(credential, name)?))).collect()
}

/// Variables that name a file or a socket and have no value to stand for it: what a program may miss in the `env` form.
pub fn missing_in_env(credential: &CredentialInfo) -> Vec<&str> {
    let is_missing = |name: &str| {
        let is_replaced = VALUE_INSTEAD_OF_FILE.iter().any(|(file, ..)| *file == name);
        !is_replaced && !SAID_OTHERWISE.contains(&name)
    };
    let names = credential.placement.iter().filter_map(|placement| match placement {
        Placement::Env { name, value } => (value.contains(DIR) && is_missing(name)).then_some(name.as_str()),
        Placement::SshAgent { variable } => Some(variable.as_str()),
        Placement::LoopbackHttp { variable, .. } => {
            instead_of_endpoint(credential, variable).is_none().then_some(variable.as_str())
        }
        _ => None,
    });
    names.collect()
}

/// One assignment that every POSIX shell reads back as it was.
fn export(name: &str, value: &str) -> String {
    format!("export {name}='{}'", value.replace('\'', "'\\''"))
}

fn aws(credential: &CredentialInfo) -> Option<String> {
    let document = json!({
        "Version": 1,
        "AccessKeyId": field(credential, "access_key_id")?,
        "SecretAccessKey": field(credential, "secret_access_key")?,
        "SessionToken": field(credential, "session_token")?,
        "Expiration": credential.expires_at,
    });
    Some(document.to_string())
}

/// What the server would put into the file that `PGPASSFILE` names; else from the fields
/// `host:port:database:user:password`, with a backslash before each colon and backslash of a value.
fn pgpass(credential: &CredentialInfo) -> Option<String> {
    let named = credential.placement.iter().find_map(|placement| match placement {
        Placement::Env { name, value } if name == "PGPASSFILE" => relative(value),
        _ => None,
    });
    let content = credential.placement.iter().find_map(|placement| match placement {
        Placement::File { path, content, .. } if named.is_some() && relative(path) == named => Some(content),
        _ => None,
    });
    if let Some(content) = content {
        return Some(content.trim_end().to_string());
    }
    let escaped = |text: String| text.replace('\\', "\\\\").replace(':', "\\:");
    let part = |name| match credential.fields.get(name)? {
        Value::String(text) => Some(escaped(text.clone())),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let host = part("host")?;
    let port = part("port").unwrap_or_else(|| "*".into());
    let database = part("database").unwrap_or_else(|| "*".into());
    Some(format!("{host}:{port}:{database}:{}:{}", part("user").or_else(|| part("username"))?, part("password")?))
}

fn field<'a>(credential: &'a CredentialInfo, name: &str) -> Option<&'a str> {
    credential.fields.get(name)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(credential: Value) -> Answer {
        let body = Secret::new(json!({ "credential": credential }).to_string().into_bytes());
        Answer { body, credential: serde_json::from_value(credential).unwrap() }
    }

    fn rendered(answer: &Answer, form: Form) -> Result<String, NoForm> {
        render(answer, form, Path::new("/opt/errand")).map(|text| text.expose().clone())
    }

    fn credential(fields: Value) -> Value {
        let mut credential =
            json!({ "kind": "k", "id": "l", "expires_at": "2026-01-01T00:00:00Z", "revocability": "ttl_only" });
        credential.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        credential
    }

    #[test]
    fn a_password_line_escapes_what_separates_its_fields() {
        let fields = json!({ "host": "h", "port": 1, "database": "a:b", "user": "u", "password": "p\\:" });
        let text = rendered(&answer(credential(fields)), Form::Pgpass).unwrap();
        assert_eq!(text, "h:1:a\\:b:u:p\\\\\\:\n");
    }

    #[test]
    fn a_password_file_of_the_servers_own_is_printed_as_it_is() {
        let placement = json!([
            { "type": "env", "name": "PGPASSFILE", "value": "${DIR}/pgpass" },
            { "type": "file", "path": "pgpass", "content": "a\nb\n", "append": true },
        ]);
        let text = rendered(&answer(credential(json!({ "placement": placement }))), Form::Pgpass).unwrap();
        assert_eq!(text, "a\nb\n");
    }

    #[test]
    fn aws_needs_all_of_its_fields() {
        let two = json!({ "access_key_id": "A", "secret_access_key": "B" });
        let three = json!({ "access_key_id": "A", "secret_access_key": "B", "session_token": "C" });
        assert!(rendered(&answer(credential(two)), Form::Aws).is_err());
        let text = rendered(&answer(credential(three)), Form::Aws).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&document["Version"], &document["Expiration"]), (&json!(1), &json!("2026-01-01T00:00:00Z")));
    }

    #[test]
    fn a_quote_in_a_value_survives_the_shell() {
        assert_eq!(export("A", "it's"), "export A='it'\\''s'");
    }

    #[test]
    fn files_without_a_value_are_named_as_missing() {
        let env = |name: &str| json!({ "type": "env", "name": name, "value": "${DIR}/x" });
        let placement = json!([env("PGPASSFILE"), env("PGSERVICEFILE"), env("PGSSLROOTCERT")]);
        let answer = answer(credential(json!({ "placement": placement, "password": "p" })));
        assert_eq!(missing_in_env(&answer.credential), ["PGSSLROOTCERT"]);
    }

    #[test]
    fn an_endpoint_is_replaced_by_all_of_its_values_or_named_as_missing() {
        let endpoint = json!({ "type": "loopback_http", "variable": "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "token_file_variable": "T", "body": {} });
        let agent = json!({ "type": "ssh_agent", "variable": "SSH_AUTH_SOCK" });
        let call = json!({ "type": "env", "name": "HELPER", "value": "${ERRAND} exchange" });
        let config = json!({ "type": "env", "name": "AWS_CONFIG_FILE", "value": "${DIR}/aws_config" });
        let placement = json!([endpoint, agent, call, config]);
        let mut fields = json!({ "access_key_id": "A", "secret_access_key": "B", "placement": placement });
        let two = answer(credential(fields.clone()));
        assert_eq!(rendered(&two, Form::Env).unwrap(), "export HELPER='/opt/errand exchange'\n");
        assert_eq!(missing_in_env(&two.credential), ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "SSH_AUTH_SOCK"]);
        fields["session_token"] = "C".into();
        let three = answer(credential(fields));
        let lines = rendered(&three, Form::Env).unwrap();
        assert!(lines.starts_with(
            "export AWS_ACCESS_KEY_ID='A'\nexport AWS_SECRET_ACCESS_KEY='B'\nexport AWS_SESSION_TOKEN='C'\n"
        ));
        assert_eq!(missing_in_env(&three.credential), ["SSH_AUTH_SOCK"]);
    }
}
