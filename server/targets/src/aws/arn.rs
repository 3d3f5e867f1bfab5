//! ARNs of IAM roles and policies, as a target may name them: one role of one account, never a pattern.
//!
//! IAM itself would take a wildcard here for a name and fail late; what a policy's author meant to be one role is read
//! as one role, or refused.

use proto_types::id::excerpt;

/// The longest ARN that STS takes.
const MAX: usize = 2048;
const PARTITIONS: [&str; 7] = ["aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f"];

/// What is wrong with one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is not the ARN of one {what}: {why}; write {example}")]
pub(super) struct ArnError {
    got: String,
    what: &'static str,
    why: &'static str,
    example: &'static str,
}

/// The ARN of one role. Instances are always valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RoleArn {
    text: String,
    partition: &'static str,
    account: String,
    name: String,
}

impl RoleArn {
    pub(super) fn parse(text: &str) -> Result<Self, ArnError> {
        let fail =
            |why| ArnError { got: excerpt(text), what: "role", why, example: "arn:aws:iam::111122223333:role/NAME" };
        let (partition, account, name) = resource(text, "role/", 64).map_err(fail)?;
        let account = account.filter(|a| is_account(a)).ok_or_else(|| fail("the account has twelve digits"))?;
        Ok(Self { partition, account: account.into(), name: name.into(), text: text.into() })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
    pub(super) fn partition(&self) -> &'static str {
        self.partition
    }
    pub(super) fn account(&self) -> &str {
        &self.account
    }
    /// Without its path: what the API of IAM calls the role.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The ARN that a session of this role has.
    pub(super) fn session(&self, session_name: &str) -> String {
        format!("arn:{}:sts::{}:assumed-role/{}/{session_name}", self.partition, self.account, self.name)
    }
}

/// A managed policy: the account's own, or one of AWS. Answers its partition.
pub(super) fn policy(text: &str) -> Result<&'static str, ArnError> {
    let fail = |why| ArnError { got: excerpt(text), what: "policy", why, example: "arn:aws:iam::aws:policy/NAME" };
    let (partition, account, _) = resource(text, "policy/", 128).map_err(fail)?;
    match account {
        Some("aws") => Ok(partition),
        Some(account) if is_account(account) => Ok(partition),
        _ => Err(fail("the account is aws or twelve digits")),
    }
}

/// Partition, account and name of `arn:PARTITION:iam::ACCOUNT:TYPE/[PATH/]NAME`.
fn resource<'a>(
    text: &'a str,
    kind: &str,
    longest: usize,
) -> Result<(&'static str, Option<&'a str>, &'a str), &'static str> {
    if text.len() > MAX {
        return Err("it has more than 2048 bytes");
    }
    let mut parts = text.splitn(6, ':');
    if parts.next() != Some("arn") {
        return Err("it does not begin with arn:");
    }
    let partition = parts.next().and_then(|p| PARTITIONS.into_iter().find(|known| *known == p));
    let partition = partition.ok_or("its partition is none that AWS has")?;
    if parts.next() != Some("iam") || parts.next() != Some("") {
        return Err("its service is not iam, which has no region");
    }
    let account = parts.next();
    let path = parts.next().and_then(|rest| rest.strip_prefix(kind)).ok_or("it names something else")?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    for segment in path.split('/') {
        if segment.is_empty() || segment == "." || segment == ".." || !segment.chars().all(is_plain) {
            return Err("path and name are of letters, digits and _+=,.@- with single slashes between");
        }
    }
    let name = path.rsplit('/').next().filter(|name| name.len() <= longest).ok_or("its name is too long")?;
    Ok((partition, account, name))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// K14.
    #[test]
    fn an_arn_names_one_role_of_one_account_and_its_neighbours_are_refused() {
        let long = format!("arn:aws:iam::111122223333:role/{}", "x".repeat(65));
        for bad in [
            "",
            "Deploy",
            "arn:aws:iam::1:role/x",
            "arn:aws:iam::1:role/../x",
            "arn:aws:iam::111122223333:role/../x",
            "arn:aws:iam::111122223333:role/a/./x",
            "arn:aws:iam::111122223333:role/a//x",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:role/*",
            "arn:aws:iam::111122223333:role/Deploy?",
            "arn:aws:iam::*:role/Deploy",
            "arn:*:iam::111122223333:role/Deploy",
            "arn:aws-moon:iam::111122223333:role/Deploy",
            "arn:aws:iam:eu-west-1:111122223333:role/Deploy",
            "arn:aws:sts::111122223333:role/Deploy",
            "arn:aws:iam::111122223333:user/Deploy",
            "arn:aws:iam::111122223333:role/Deploy\n",
            "arn:aws:iam::111122223333:role/Deploy\0",
            "arn:aws:iam::111122223333:role/Déploy",
            "arn:aws:iam::11112222333３:role/Deploy",
            "ARN:aws:iam::111122223333:role/Deploy",
            "arn:aws:iam::111122223333:role/a:b",
            long.as_str(),
        ] {
            assert!(RoleArn::parse(bad).is_err(), "{bad}");
        }
        for (good, name) in [
            ("arn:aws:iam::111122223333:role/Deploy", "Deploy"),
            ("arn:aws:iam::111122223333:role/teams/data/Deploy.x", "Deploy.x"),
            ("arn:aws-cn:iam::000000000001:role/..x", "..x"),
            ("arn:aws-us-gov:iam::111122223333:role/a+=,.@-b_c", "a+=,.@-b_c"),
        ] {
            let arn = RoleArn::parse(good).unwrap();
            assert_eq!((arn.as_str(), arn.name()), (good, name));
        }
        let arn = RoleArn::parse("arn:aws:iam::111122223333:role/teams/Deploy").unwrap();
        assert_eq!(arn.session("s"), "arn:aws:sts::111122223333:assumed-role/Deploy/s");
    }

    #[test]
    fn a_policy_is_the_accounts_own_or_one_of_aws() {
        for bad in [
            "arn:aws:iam::aws:role/ReadOnlyAccess",
            "arn:aws:iam::amazon:policy/ReadOnlyAccess",
            "arn:aws:iam::aws:policy/*",
            "arn:aws:iam::aws:policy/../x",
        ] {
            assert!(policy(bad).is_err(), "{bad}");
        }
        for good in ["arn:aws:iam::aws:policy/job-function/ViewOnlyAccess", "arn:aws:iam::111122223333:policy/own"] {
            assert_eq!(policy(good), Ok("aws"), "{good}");
        }
    }
}
