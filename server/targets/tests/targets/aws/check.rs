//! `target check`: asks for what must be refused, and says what was not.

use super::{Cloud, DEPLOY, build, document};
use server_core::ports::{KindContext, Missing, Target};
use std::sync::Arc;
use testkit::signers::TestSigners;

const GIVEN: &str = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
    <AccessKeyId>ASIAX</AccessKeyId><SecretAccessKey>x</SecretAccessKey><SessionToken>x</SessionToken>\
    <Expiration>2030-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
    </AssumeRoleWithWebIdentityResponse>";

/// Without what is said of plain HTTP.
async fn findings(target: &dyn Target) -> Vec<Missing> {
    let all = target.check().await;
    let (http, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|f| f.what.contains("unencrypted"));
    assert_eq!((http.len(), http[0].severity.as_str()), (1, "warning"));
    rest
}

#[tokio::test]
async fn where_all_is_well_nothing_is_missing_and_no_session_was_made() {
    let cloud = Cloud::new().await;
    let target = cloud.target("", "");
    assert_eq!(findings(&*target).await, []);
    assert_eq!(cloud.sts.calls().len(), 2);
    let made = cloud.issue(&*target).await.unwrap();
    assert!(made.fields.expose().contains("ASIASTANDIN000000001"), "it is the first");
}

#[tokio::test]
async fn each_thing_that_is_wrong_is_said_with_what_mends_it() {
    let cloud = Cloud::new().await;
    let target = cloud.target("", "");
    let error =
        |code: &str| format!("<ErrorResponse><Error><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>");
    for (status, body, severity, words) in [
        (200, GIVEN.to_string(), "error", "for what is no token"),
        (200, "<html/>".into(), "error", "is no STS's"),
        (500, String::new(), "error", "cannot be checked"),
        (403, error("RegionDisabledException"), "error", "not turned on in this region"),
        (400, error("IDPCommunicationError"), "error", "IDPCommunicationError"),
        (400, error("InvalidIdentityToken"), "error", "refuses a token of this server's"),
    ] {
        cloud.sts.answers_xml(status, &body);
        let found = findings(&*target).await;
        assert!(found.len() == 1 && found[0].severity == severity && found[0].what.contains(words), "{found:?}");
    }
    cloud.sts.verifies();
    assert_eq!(findings(&*target).await, []);

    let stranger = KindContext { tokens: Arc::new(TestSigners::default()), ..cloud.context() };
    let found = findings(&*build(&document(&cloud.sts.url(), "", ""), &stranger)).await;
    assert!(found.len() == 1 && found[0].fix.as_ref().is_some_and(|f| f.contains("the keys")), "{found:?}");

    cloud.sts.trusts(|t| t.roles.get_mut(DEPLOY).unwrap().subject = None);
    let found = findings(&*target).await;
    assert!(found.len() == 1 && found[0].severity == "warning", "{found:?}");
    assert!(found[0].what.contains("no condition on the subject"), "{found:?}");
}
