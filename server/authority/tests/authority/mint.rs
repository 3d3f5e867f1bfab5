//! Certificates and tokens: `openssl` accepts them, the linter sees what differs, nothing outlives its key.

use crate::house::{House, NOW, openssl, pem, workload_key};
use proto_jose::{Expect, KeySet, verify_jwt};
use proto_types::{KeyUse, Timestamp, id::parse_spiffe_id};
use server_authority::lint::check_leaf;
use server_core::{
    issue::{JwtSvidRequest, Ttls, check_csr, jwt_svid_template, x509_template},
    journal::SignedNote,
    ports::{Authorities, JournalSigner, JwtTemplate, Minter, ProvenKey, SignError, TreeRoot, X509Template},
};
use std::{collections::HashSet, time::Duration};
use x509_parser::prelude::{FromDer, X509Certificate};

fn template(house: &House, path: &str, dns: &[&str]) -> X509Template {
    let id = parse_spiffe_id(&format!("spiffe://example.org{path}")).unwrap();
    let dns: Vec<String> = dns.iter().map(|d| d.to_string()).collect();
    x509_template(&id, &dns, 0, &Ttls::default(), NOW, house.keyring.ca_not_after()).unwrap()
}

#[tokio::test]
async fn openssl_accepts_a_minted_chain_and_reads_what_the_template_said() {
    let house = House::new();
    let svid = house.keyring.x509(&template(&house, "/web", &["db.example.org", "x"]), &workload_key()).await.unwrap();
    house.write("ca.pem", pem("CERTIFICATE", &house.keyring.bundle().x509[0]).as_bytes());
    house.write("leaf.pem", pem("CERTIFICATE", &svid.chain[0]).as_bytes());
    let at = NOW.as_secs().to_string();
    for purpose in ["sslserver", "sslclient"] {
        let args = ["verify", "-x509_strict", "-attime", &at, "-purpose", purpose, "-CAfile", "ca.pem", "leaf.pem"];
        let (ok, said) = openssl(house.dir.path(), &args);
        assert!(ok, "{said}");
    }
    let (_, text) = openssl(house.dir.path(), &["x509", "-in", "leaf.pem", "-noout", "-text", "-nameopt", "RFC2253"]);
    for expected in [
        "URI:spiffe://example.org/web, DNS:db.example.org, DNS:x",
        "CN=db.example.org,O=Errand,C=US",
        "Digital Signature, Key Encipherment, Key Agreement",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "CA:FALSE",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let late = (NOW.as_secs() + 3601).to_string();
    let (ok, _) = openssl(house.dir.path(), &["verify", "-attime", &late, "-CAfile", "ca.pem", "leaf.pem"]);
    assert!(!ok, "it ends after an hour");
}

#[tokio::test]
async fn a_certificate_carries_the_proven_key_byte_for_byte_whatever_signed_its_request() {
    let house = House::new();
    let dir = house.dir.path();
    for (name, new_key) in [
        ("p384", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"][..]),
        ("p256", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        ("rsa", &["-newkey", "rsa:2048"]),
    ] {
        let csr = format!("{name}.csr");
        let mut args = vec!["req", "-new", "-sha256", "-nodes", "-keyout", "k.pem", "-outform", "DER", "-out", &csr];
        // What the requester would like is not asked.
        let wish = ["-subj", "/CN=admin", "-addext", "subjectAltName=URI:spiffe://example.org/admin", "-addext"];
        args.extend(new_key.iter().copied().chain(wish).chain(["basicConstraints=critical,CA:TRUE"]));
        let (ok, said) = openssl(dir, &args);
        assert!(ok, "{said}");
        let der = std::fs::read(dir.join(&csr)).unwrap();
        let key = check_csr(&der, &|spki| house.keyring.is_own_key(spki)).unwrap();
        let svid = house.keyring.x509(&template(&house, "/web", &[]), &key).await.unwrap();
        let (_, cert) = X509Certificate::from_der(&svid.chain[0]).unwrap();
        assert_eq!(cert.public_key().raw, key.spki_der(), "{name}");
        assert!(!cert.is_ca() && !cert.subject().to_string().contains("admin"), "CVE-2021-27098");
        assert!(cert.subject_alternative_name().unwrap().unwrap().value.general_names.len() == 1);
    }
}

#[tokio::test]
async fn the_linter_refuses_a_certificate_that_is_not_its_template() {
    let house = House::new();
    let (key, template) = (workload_key(), template(&house, "/web", &["a.example.org"]));
    let svid = house.keyring.x509(&template, &key).await.unwrap();
    let (_, cert) = X509Certificate::from_der(&svid.chain[0]).unwrap();
    let (serial, issuer) = (cert.raw_serial(), cert.issuer().as_raw());
    let aki: Vec<u8> = house.rows.iter().find(|r| r.key_use == KeyUse::X509).map(|r| unhex(&r.id)).unwrap();
    let der = &svid.chain[0];
    check_leaf(der, &template, key.spki_der(), serial, issuer, &aki).unwrap();

    let changed = |f: &dyn Fn(&mut X509Template)| {
        let mut t = template.clone();
        f(&mut t);
        check_leaf(der, &t, key.spki_der(), serial, issuer, &aki)
    };
    assert!(changed(&|t| t.spiffe_id = parse_spiffe_id("spiffe://example.org/web2").unwrap()).is_err());
    assert!(changed(&|t| t.dns_names.clear()).is_err());
    assert!(changed(&|t| t.dns_names.push("b.example.org".into())).is_err());
    assert!(changed(&|t| t.not_after = Timestamp::from_secs(t.not_after.as_secs() - 1)).is_err());
    assert!(changed(&|t| t.not_before = NOW).is_err());
    assert!(check_leaf(der, &template, workload_key().spki_der(), serial, issuer, &aki).is_err());
    assert!(check_leaf(der, &template, key.spki_der(), &[1; 16], issuer, &aki).is_err());
    assert!(check_leaf(der, &template, key.spki_der(), serial, &issuer[1..], &aki).is_err());
    assert!(check_leaf(der, &template, key.spki_der(), serial, issuer, &aki[1..]).is_err());
    let ca = &house.keyring.bundle().x509[0];
    assert!(check_leaf(ca, &template, key.spki_der(), serial, issuer, &aki).is_err());
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

#[tokio::test]
async fn serials_are_sixteen_bytes_and_never_the_same_twice_on_one_key() {
    let house = House::new();
    let (key, template) = (workload_key(), template(&house, "/web", &[]));
    let mut seen = HashSet::new();
    for _ in 0..500 {
        let svid = house.keyring.x509(&template, &key).await.unwrap();
        assert_eq!(svid.serial.len(), 32);
        assert!(seen.insert(svid.serial));
    }
}

#[tokio::test]
async fn what_is_not_ours_to_certify_is_refused() {
    let house = House::new();
    let own = house.keyring.public_keys(KeyUse::X509)[0].spki_der.clone();
    let refused = house.keyring.x509(&template(&house, "/web", &[]), &ProvenKey::assertion(own)).await;
    assert!(matches!(refused, Err(SignError::Refused(_))), "B30");
    let foreign =
        X509Template { spiffe_id: parse_spiffe_id("spiffe://other.org/web").unwrap(), ..template(&house, "/web", &[]) };
    assert!(matches!(house.keyring.x509(&foreign, &workload_key()).await, Err(SignError::Refused(_))));
    let garbage = ProvenKey::assertion(vec![0x30, 0]);
    assert!(matches!(house.keyring.x509(&template(&house, "/web", &[]), &garbage).await, Err(SignError::Refused(_))));
    let none = House::empty();
    let answer = none.keyring.x509(&template(&house, "/web", &[]), &workload_key()).await;
    assert_eq!(answer.unwrap_err(), SignError::NoActiveKey("x509"));
}

#[tokio::test]
async fn nothing_outlives_the_key_that_signed_it() {
    let house = House::new();
    let ca_end = house.keyring.ca_not_after();
    let long = X509Template { not_after: ca_end.plus(Duration::from_secs(86_400)), ..template(&house, "/web", &[]) };
    let svid = house.keyring.x509(&long, &workload_key()).await.unwrap();
    assert_eq!(svid.not_after, ca_end, "B29");
    let token =
        house.keyring.jwt(&svid_template(|t| t.expires_at = ca_end.plus(Duration::from_secs(9)))).await.unwrap();
    assert_eq!(token.expires_at, ca_end);
    let late = svid_template(|t| (t.issued_at, t.expires_at) = (ca_end, ca_end.plus(Duration::from_secs(9))));
    assert_eq!(house.keyring.jwt(&late).await.unwrap_err(), SignError::NoActiveKey("jwt-svid"));
}

fn svid_template(change: impl Fn(&mut JwtTemplate)) -> JwtTemplate {
    let audiences = ["https://errand.example.org".to_string()];
    let reserved = |_: &str| false;
    let request = JwtSvidRequest { audiences: &audiences, issuer: None, jti: "j1", reserved: &reserved, now: NOW };
    let id = parse_spiffe_id("spiffe://example.org/web").unwrap();
    let mut template = jwt_svid_template(&id, &request, 0, &Ttls::default()).unwrap();
    change(&mut template);
    template
}

#[tokio::test]
async fn a_minted_token_verifies_with_the_published_keys_of_its_use_only() {
    let house = House::new();
    let token = house.keyring.jwt(&svid_template(|_| ())).await.unwrap();
    let keys = |key_use| {
        let public = house.keyring.public_keys(key_use);
        KeySet::from_spkis(public.iter().map(|k| (k.kid.as_str(), &k.spki_der[..]))).unwrap()
    };
    let td = proto_types::id::parse_trust_domain("example.org").unwrap();
    let expect = Expect::jwt_svid("https://errand.example.org", td);
    let verified = verify_jwt(token.token.expose(), &expect, &keys(KeyUse::JwtSvid), NOW).unwrap();
    assert_eq!((verified.text("jti"), verified.expires_at()), (Some("j1"), token.expires_at));
    verify_jwt(token.token.expose(), &expect, &keys(KeyUse::Oauth), NOW).unwrap_err();

    for bad in [
        svid_template(|t| t.key_use = KeyUse::X509),
        svid_template(|t| t.key_use = KeyUse::Journal),
        svid_template(|t| drop(t.claims.insert("exp".into(), 1.into()))),
        svid_template(|t| drop(t.claims.remove("aud"))),
    ] {
        assert!(matches!(house.keyring.jwt(&bad).await, Err(SignError::Refused(_))));
    }
}

#[test]
fn the_journals_key_signs_checkpoints_under_the_journals_name_and_there_is_none_before_a_key() {
    let house = House::new();
    let (key, root) = (JournalSigner::key(&house.keyring).unwrap(), TreeRoot { size: 7, root: [7; 32] });
    let note = house.keyring.checkpoint(root).unwrap();
    let verified = note.verify(&key).unwrap();
    assert!(key.name().starts_with("errand.journal/example.org/"), "{key}");
    assert_eq!((verified.checkpoint().size, verified.checkpoint().root), (7, [7; 32]));
    let other: SignedNote = note.to_string().replacen('7', "8", 1).parse().unwrap();
    assert!(other.verify(&key).is_err());
    let none = House::empty().keyring;
    assert_eq!((JournalSigner::key(&none), none.checkpoint(root)), (None, Err(SignError::NoActiveKey("journal"))));
}

#[test]
fn the_servers_own_identity_has_a_fresh_key_that_fits_its_certificate() {
    let house = House::new();
    let ttls = Ttls::default();
    let one = house.keyring.server_identity(&["errand".into()], &ttls, NOW).unwrap();
    let two = house.keyring.server_identity(&["errand".into()], &ttls, NOW).unwrap();
    assert_ne!(one.key.expose(), two.key.expose());
    house.write("leaf.pem", pem("CERTIFICATE", &one.chain[0]).as_bytes());
    house.write("key.der", one.key.expose());
    let (_, of_cert) = openssl(house.dir.path(), &["x509", "-in", "leaf.pem", "-noout", "-pubkey"]);
    let (_, of_key) = openssl(house.dir.path(), &["pkey", "-inform", "DER", "-in", "key.der", "-pubout"]);
    assert_eq!(of_cert, of_key);
    let (_, text) = openssl(house.dir.path(), &["x509", "-in", "leaf.pem", "-noout", "-text"]);
    assert!(text.contains("URI:spiffe://example.org/spire/server") && text.contains("CN = errand"), "{text}");
}
