//! Scripts for people: the side of IAM, and the way to end sessions without us. Both are for the `aws` command line.
//!
//! Everything in them that comes from a document was checked to be of characters that no shell gives a meaning.

use super::{
    arn::RoleArn,
    config::{DEFAULT_AUDIENCE, DEFAULT_SUBJECT},
    subject::Subject,
};
use proto_types::{CredentialName, TargetDoc, parse_duration};
use serde_json::{Value, json};

/// A session longer than this needs the role's leave.
const UNASKED: u64 = 3600;

/// One role of a document.
struct Declared {
    name: String,
    arn: RoleArn,
    seconds: u64,
}

/// What an administrator of IAM runs once. `None` when the document names no role.
pub(super) fn setup(doc: &TargetDoc) -> Option<String> {
    let text = |key: &str, default: &'static str| doc.body.get(key).map_or(Some(default), Value::as_str);
    let audience = text("audience", DEFAULT_AUDIENCE).filter(|a| is_quotable(a))?;
    let subject = Subject::parse(text("subject", DEFAULT_SUBJECT)?).ok()?;
    let roles = roles(doc);
    let mut script = format!(
        "#!/bin/sh\n\
         # Once, with the rights of an administrator of IAM in the account. Look at it before you run it.\n\
         set -eu\n\
         ISSUER=$(errand issuer show)    # or write it here: the server's [http] issuer\n\
         HOST=${{ISSUER#https://}}\n\
         # The tokens of this server are verified with the keys that stand under its issuer.\n\
         aws iam create-open-id-connect-provider --url \"$ISSUER\" --client-id-list '{audience}'\n"
    );
    for role in &roles {
        let pattern = Some(subject.pattern(&doc.name, &role.name)).filter(|p| is_quotable(p))?;
        script.push_str(&of_role(role, audience, &pattern));
    }
    (!roles.is_empty()).then_some(script)
}

fn of_role(role: &Declared, audience: &str, pattern: &str) -> String {
    let arn = &role.arn;
    let condition = if pattern.contains('*') { "StringLike" } else { "StringEquals" };
    let mut conditions = json!({ "StringEquals": { "$HOST:aud": audience } });
    conditions[condition]["$HOST:sub"] = pattern.into();
    let provider = format!("arn:{}:iam::{}:oidc-provider/$HOST", arn.partition(), arn.account());
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": { "Federated": provider },
            "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"],
            "Condition": conditions,
        }],
    });
    // Between single quotes, but for the issuer's host: quotes of JSON stand as they are.
    let policy = policy.to_string().replace("$HOST", "'\"$HOST\"'");
    let name = arn.name();
    let mut script = format!(
        "\n# Role {}: narrow the pattern of `sub` to the workloads that may have it.\n\
         TRUST='{policy}'\n\
         aws iam get-role --role-name '{name}' >/dev/null 2>&1 ||\n  \
         aws iam create-role --role-name '{name}' --assume-role-policy-document \"$TRUST\"\n\
         aws iam update-assume-role-policy --role-name '{name}' --policy-document \"$TRUST\"\n",
        role.name
    );
    if role.seconds > UNASKED {
        script.push_str(&format!("aws iam update-role --role-name '{name}' --max-session-duration {}\n", role.seconds));
    }
    script
}

/// Takes every right from the sessions of this store that exist now, in each role. Sessions made later are not touched.
pub(super) fn by_hand(doc: &TargetDoc, store_id: &str) -> Option<String> {
    let roles = roles(doc);
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Deny",
            "Action": "*",
            "Resource": "*",
            "Condition": {
                "DateLessThan": { "aws:TokenIssueTime": "$NOW" },
                "StringLike": { "aws:userid": format!("*:{}*", CredentialName::prefix(store_id)) },
            },
        }],
    });
    let policy = policy.to_string().replace("$NOW", "'\"$NOW\"'");
    let mut script = format!(
        "#!/bin/sh\n\
         # With the rights of an administrator of IAM in the account. Stop the server first.\n\
         # Nobody can end a session of AWS; this denies everything to those that this installation obtained until now.\n\
         # Of one task only: put \"StringEquals\": {{\"aws:PrincipalTag/task\": \"TASK\"}} in the place of \"DateLessThan\".\n\
         set -eu\n\
         NOW=$(date -u +%Y-%m-%dT%H:%M:%SZ)\n\
         DENY='{policy}'\n"
    );
    for role in &roles {
        let name = role.arn.name();
        script.push_str(&format!(
            "aws iam put-role-policy --role-name '{name}' --policy-name errand-ended --policy-document \"$DENY\"\n"
        ));
    }
    script.push_str("# Twelve hours later none of them is alive, and the policy can go:\n");
    for role in &roles {
        script.push_str(&format!(
            "# aws iam delete-role-policy --role-name '{}' --policy-name errand-ended\n",
            role.arn.name()
        ));
    }
    (!roles.is_empty()).then_some(script)
}

fn roles(doc: &TargetDoc) -> Vec<Declared> {
    let tables = doc.body.get("role").and_then(Value::as_array).into_iter().flatten();
    tables
        .filter_map(|table| {
            let text = |key: &str| table.get(key).and_then(Value::as_str);
            let name = text("name").filter(|n| proto_types::target::is_name(n))?.to_string();
            let seconds =
                text("session_duration").and_then(|d| parse_duration(d).ok()).map_or(UNASKED, |d| d.as_secs());
            Some(Declared { name, arn: RoleArn::parse(text("role_arn")?).ok()?, seconds })
        })
        .collect()
}

/// Nothing that ends a quote or is a variable to a shell.
fn is_quotable(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !"'\"$`\\".contains(c))
}
