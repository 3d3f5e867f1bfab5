//! What an answer of AssumeRoleWithWebIdentity means: a session, as it was asked for, or why there is none.
//!
//! The document decides, not the status: an error is one under HTTP 200 too. What the STS says is checked before any of
//! it reaches a header, a file or a variable.

use super::{
    endpoint::Endpoint,
    failure::StsError,
    http::Reply,
    xml::{self, Leaves, XmlError},
};
use proto_types::{Secret, Timestamp};

const RESULT: &str = "AssumeRoleWithWebIdentityResponse/AssumeRoleWithWebIdentityResult";
/// Longest session token believed, bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// The keys of one session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: Secret<String>,
    pub(super) session_token: Secret<String>,
    pub(super) expiration: Timestamp,
}

/// `session_arn`: whose session it must be, where the STS says so.
pub(super) fn read(reply: &Reply, at: &Endpoint, session_arn: &str) -> Result<Session, StsError> {
    let at = at.to_string();
    if (300..400).contains(&reply.status) {
        return Err(StsError::Redirect { at, status: reply.status });
    }
    if reply.status >= 500 {
        return Err(StsError::Broken { at, status: reply.status });
    }
    let leaves = match xml::read(reply.body.expose()) {
        Ok(leaves) => leaves,
        Err(e) => return Err(StsError::Unreadable { at, status: reply.status, why: e.to_string() }),
    };
    let unreadable = |why: String| StsError::Unreadable { at: at.clone(), status: reply.status, why };
    for root in ["ErrorResponse/Error", "Error"] {
        let text = |name: &str| leaves.text(&format!("{root}/{name}")).map_err(|e| unreadable(e.to_string()));
        if let Some(code) = text("Code")? {
            return Err(StsError::refused(code, text("Message")?.unwrap_or_default()));
        }
    }
    if !leaves.is_root("AssumeRoleWithWebIdentityResponse") {
        return Err(unreadable("it is about something else".into()));
    }
    if reply.status != 200 {
        return Err(StsError::Other { at, why: "it came with an error's status".into() });
    }
    let arn = leaves.text(&format!("{RESULT}/AssumedRoleUser/Arn")).map_err(|e| unreadable(e.to_string()))?;
    if arn.is_some_and(|arn| arn != session_arn) {
        return Err(StsError::Other { at, why: "it is of another role, account or name".into() });
    }
    session(&leaves).map_err(|why| unreadable(why.into()))
}

fn session(leaves: &Leaves) -> Result<Session, &'static str> {
    let field = |name: &str, longest: usize| {
        let text =
            leaves.text(&format!("{RESULT}/Credentials/{name}")).map_err(|_: XmlError| "it says the same twice")?;
        let text = text.ok_or("it lacks a part of the credentials")?;
        // Visible ASCII: a line break here would be one in somebody's header or file.
        let good = (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if good { Ok(text) } else { Err("a part of its credentials is none") }
    };
    let access_key_id = field("AccessKeyId", 128)?.to_string();
    if !access_key_id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err("its access key id is none");
    }
    let expiration = field("Expiration", 64)?.parse().map_err(|_| "its expiration is no time")?;
    Ok(Session {
        access_key_id,
        secret_access_key: Secret::new(field("SecretAccessKey", 512)?.to_string()),
        session_token: Secret::new(field("SessionToken", MAX_TOKEN)?.to_string()),
        expiration,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use server_core::ports::IssueError;

    const ARN: &str = "arn:aws:sts::111122223333:assumed-role/Deploy/errand_k3m9x_abcdefghijklmnop";
    const GOOD: &str = "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
        <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAEXAMPLE</AccessKeyId>\
        <SecretAccessKey>se/cr+et</SecretAccessKey><SessionToken>to/ken==</SessionToken>\
        <Expiration>2026-01-01T00:15:00Z</Expiration></Credentials><AssumedRoleUser>\
        <Arn>arn:aws:sts::111122223333:assumed-role/Deploy/errand_k3m9x_abcdefghijklmnop</Arn>\
        </AssumedRoleUser></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";

    fn answered(status: u16, body: &str) -> Result<Session, StsError> {
        let reply = Reply { status, body: Secret::new(body.as_bytes().to_vec()) };
        read(&reply, &Endpoint::regional("eu-west-1"), ARN)
    }

    fn made_nothing(error: StsError) -> bool {
        matches!(IssueError::from(error), IssueError::Refused { .. } | IssueError::Never { .. })
    }

    fn error(code: &str) -> String {
        format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>"
        )
    }

    #[test]
    fn a_session_is_read_and_shows_no_secret() {
        let session = answered(200, GOOD).unwrap();
        assert_eq!(
            (session.access_key_id.as_str(), session.secret_access_key.expose().as_str()),
            ("ASIAEXAMPLE", "se/cr+et")
        );
        assert_eq!(session.expiration.to_string(), "2026-01-01T00:15:00Z");
        let shown = format!("{session:?}");
        assert!(!shown.contains("se/cr") && !shown.contains("to/ken"), "{shown}");
        // An STS that does not say whose session it is.
        let start = GOOD.find("<AssumedRoleUser>").unwrap();
        let end = GOOD.find("</AssumeRoleWithWebIdentityResult>").unwrap();
        assert!(answered(200, &format!("{}{}", &GOOD[..start], &GOOD[end..])).is_ok());
    }

    /// K14, K18: each is the good answer with one thing changed.
    #[test]
    fn an_answer_that_is_not_the_session_asked_for_is_dropped_and_may_have_made_one() {
        for (from, to) in [
            ("111122223333:assumed", "444455556666:assumed"),
            ("Deploy/errand", "Admin/errand"),
            ("arn:aws:sts", "arn:aws-cn:sts"),
            ("<SessionToken>to/ken==</SessionToken>", ""),
            ("<SessionToken>to/ken==</SessionToken>", "<SessionToken/>"),
            ("to/ken==", "to ken"),
            ("to/ken==", "to&#10;ken"),
            ("ASIAEXAMPLE", "ASIA&#13;&#10;X"),
            ("ASIAEXAMPLE", "ASIA:X"),
            ("2026-01-01T00:15:00Z", "tomorrow"),
            ("<Credentials>", "<Credentials><AccessKeyId>ASIAOTHER</AccessKeyId>"),
            ("AssumeRoleWithWebIdentityResponse", "AssumeRoleResponse"),
            ("</AssumedRoleUser>", ""),
        ] {
            let error = answered(200, &GOOD.replace(from, to)).expect_err(to);
            assert!(!made_nothing(error.clone()), "{to}: {error}");
            assert!(!error.to_string().contains("se/cr"), "{error}");
        }
        assert!(answered(200, GOOD).is_ok());
    }

    #[test]
    fn an_error_is_one_under_any_status_and_made_nothing() {
        for code in [
            "InvalidIdentityToken",
            "ExpiredTokenException",
            "IDPCommunicationError",
            "IDPRejectedClaim",
            "AccessDenied",
            "PackedPolicyTooLarge",
            "MalformedPolicyDocument",
            "RegionDisabledException",
            "SomethingNew",
        ] {
            for status in [200, 400, 403] {
                let refused = answered(status, &error(code)).unwrap_err();
                assert!(matches!(&refused, StsError::Refused { code: found, .. } if found == code), "{refused:?}");
                assert!(made_nothing(refused), "{status} {code}");
            }
        }
        let bare = answered(400, "<Error><Code>InvalidParameterValue</Code></Error>").unwrap_err();
        assert_eq!(bare.to_string(), "InvalidParameterValue");
        for (status, body) in [(302, ""), (307, GOOD), (403, "<html>"), (404, "")] {
            assert!(made_nothing(answered(status, body).unwrap_err()), "{status}");
        }
        for (status, body) in
            [(200, ""), (200, "<html></html>"), (400, GOOD), (500, ""), (503, error("Unavailable").as_str())]
        {
            assert!(!made_nothing(answered(status, body).unwrap_err()), "{status}");
        }
        let quoting =
            answered(400, &error("x").replace("<Message>m", "<Message>no: eyJhbGciOiJFUzI1NiJ9.x")).unwrap_err();
        assert!(!quoting.to_string().contains("eyJ"), "{quoting}");
    }
}
