//! Encrypted connections: who the target is, and the server's own SVID instead of a password.

use crate::world::{STORE, context};
use proto_types::{Clock as _, Placement, Secret, SystemClock};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use server_core::ports::{IssueError, KindContext, Target};
use server_targets::{Registry, parse_toml};
use std::{path::Path, sync::Arc, time::Duration};
use testkit::{
    poll,
    postgres::PostgresFixture,
    target_law::{Subject, durable},
};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("valid by construction");
    let pem = params.self_signed(&key).expect("valid by construction").pem();
    Authority { pem, issuer: Issuer::new(params, key) }
}

/// (certificate, key), PEM.
fn leaf(authority: &Authority, names: &[&str], common_name: &str) -> (String, String) {
    let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_string()).collect::<Vec<_>>())
        .expect("valid by construction");
    params.distinguished_name.push(DnType::CommonName, common_name);
    let key = KeyPair::generate().expect("valid by construction");
    (params.signed_by(&key, &authority.issuer).expect("valid by construction").pem(), key.serialize_pem())
}

/// A server with a certificate of `authority` that lets `errand` in by certificate and everybody else by password.
async fn encrypted(authority: &Authority) -> PostgresFixture {
    let pg = PostgresFixture::start().await;
    let (certificate, key) = leaf(authority, &["127.0.0.1"], "db");
    let certificate = pg.put("server.crt", &certificate);
    let key = pg.put("server.key", &key);
    let clients = pg.put("clients.pem", &authority.pem);
    for (name, path) in [("ssl_cert_file", certificate), ("ssl_key_file", key), ("ssl_ca_file", clients)] {
        pg.sql(&format!("ALTER SYSTEM SET {name} = '{}'", path.display())).await;
    }
    pg.sql("ALTER SYSTEM SET ssl = on").await;
    pg.admit("hostssl all errand 127.0.0.1/32 cert").await;
    let on = async || pg.ask::<String>("SELECT current_setting('ssl')").await == "on";
    poll::until("TLS is on", Duration::from_secs(5), on).await;
    pg
}

fn target(pg: &PostgresFixture, ca: &Path, svid: Option<(String, String)>) -> Arc<dyn Target> {
    let text = format!(
        "[[target]]\nname = \"orders-db\"\nkind = \"postgres\"\nurl = \"{}\"\nca_file = \"{}\"\n\
         [[target.role]]\nname = \"readonly\"\nmember_of = [\"orders_reader\"]\n",
        pg.manager_url(),
        ca.display()
    );
    let identity = move || svid.clone().map(|(chain, key)| (chain, Secret::new(key)));
    let context = KindContext { identity: Arc::new(identity), ..context() };
    Registry::builtin()
        .build(&parse_toml(&text, "config").expect("valid by construction")[0], &context)
        .expect("valid by construction")
}

fn subject(target: &dyn Target) -> Subject<'_> {
    Subject { target, name: "orders-db", kind: "postgres", role: "readonly", store_id: STORE, now: SystemClock.now() }
}

#[tokio::test]
async fn the_servers_own_svid_opens_the_target_and_no_other_certificate_does() {
    let (ours, others) = (authority(), authority());
    let pg = encrypted(&ours).await;
    let ca = pg.put("ca.pem", &ours.pem);
    let good = target(&pg, &ca, Some(leaf(&ours, &["errand.example.org"], "errand")));
    let s = subject(&*good);
    let request = s.request();
    let issued = good.issue(&durable(), &request).await.unwrap();
    assert_eq!(good.check().await, []);
    for name in ["PGSSLMODE", "PGSSLROOTCERT"] {
        assert!(issued.placement.iter().any(|p| matches!(p, Placement::Env { name: n, .. } if n == name)), "{name}");
    }
    let file = issued.placement.iter().find_map(|p| match p {
        Placement::File { path, content, .. } if path == "orders-db-ca.pem" => Some(content.trim()),
        _ => None,
    });
    assert_eq!(file, Some(ours.pem.trim()));
    for bad in [None, Some(leaf(&ours, &["x"], "somebody")), Some(leaf(&others, &["x"], "errand"))] {
        let bad = target(&pg, &ca, bad);
        let refused = bad.issue(&durable(), &s.request()).await.err();
        assert!(matches!(refused, Some(IssueError::Refused { .. })), "{refused:?}");
        assert!(bad.revoke(&s.lease(&request, issued.handle.clone())).await.is_err());
    }
    good.revoke(&s.lease(&request, issued.handle)).await.unwrap();
}

#[tokio::test]
async fn a_target_whose_certificate_nobody_vouches_for_is_not_spoken_to() {
    let (ours, others) = (authority(), authority());
    let pg = encrypted(&others).await;
    let ca = pg.put("ca.pem", &ours.pem);
    let target = target(&pg, &ca, Some(leaf(&others, &["x"], "errand")));
    let s = subject(&*target);
    let refused = target.issue(&durable(), &s.request()).await.err();
    assert!(matches!(refused, Some(IssueError::Refused { .. })), "{refused:?}");
}
