//! Publishing the issuer's documents.

use super::Fake;
use axum::{Router, routing::get};
use std::{fs, os::unix::fs::PermissionsExt as _};

/// White space and order as no program of ours would write them: what is published is what was served.
const CONFIGURATION: &str =
    "{ \"jwks_uri\": \"https://errand.example.org/keys\",\n\"issuer\":\"https://errand.example.org\" }";
const KEYS: &str = "{\"keys\":[ {\"kid\":\"b\"}, {\"kid\":\"a\"} ]}\n";

pub fn documents() -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(|| async { CONFIGURATION }))
        .route("/keys", get(|| async { KEYS }))
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_writes_both_documents_as_they_are_served_and_for_everybody_to_read() {
    let fake = Fake::start().await;
    let dir = fake.home().join("www/errand");
    let to = dir.to_str().unwrap();
    fake.asked();
    for _ in 0..2 {
        let ran = fake.run(&["issuer", "publish", "--to", to, "--output", "json"]).ok();
        assert_eq!((&ran.json()["issuer"], &ran.json()["keys"]), (&"https://errand.example.org".into(), &2.into()));
    }
    let (keys, configuration) = (dir.join("keys"), dir.join(".well-known/openid-configuration"));
    assert_eq!(
        (fs::read_to_string(&keys).unwrap().as_str(), fs::read_to_string(&configuration).unwrap().as_str()),
        (KEYS, CONFIGURATION)
    );
    for path in [&keys, &configuration] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o644, "{}", path.display());
    }
    let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing half written is left: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_directory_is_refused_before_anything_is_asked() {
    let fake = Fake::start().await;
    let ran = fake.run(&["issuer", "publish", "--to", "s3://bucket/errand"]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("publishes to a directory, not to s3://"), "{}", ran.stderr);
    assert!(fake.asked().is_empty());
    let file = fake.file("file", "");
    assert_eq!(fake.run(&["issuer", "publish", "--to", &file]).status, 1);
    fake.run(&["issuer", "publish", "--to", fake.home().join("new").to_str().unwrap()]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn show_prints_the_url_alone() {
    let fake = Fake::start().await;
    assert_eq!(fake.run(&["issuer", "show"]).ok().stdout, "https://errand.example.org\n");
}
