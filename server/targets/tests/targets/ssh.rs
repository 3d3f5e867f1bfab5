//! `ssh` on a real OpenSSH: what is certified logs in, what is not is refused, and every bad key beside a good one.

use crate::world::{STORE, context};
use proto_types::{Clock as _, Lease, OsEntropy, SystemClock, TargetDoc, Timestamp};
use server_core::ports::{IssueError, IssueRequest, Issued, KindContext, Revoked, Target};
use server_targets::{Registry, parse_toml};
use std::{fs, path::Path, process::Command, sync::Arc, time::Duration};
use testkit::{
    openssh::{SshdFixture, key_pair},
    target_law::{Subject, holds_for_minted},
};

fn document(target: &str, role: &str) -> String {
    format!(
        "[[target]]\nname = \"bastion\"\nkind = \"ssh\"\nhost = \"127.0.0.1\"\n{target}\n[[target.role]]\nname = \"ops\"\n\
         {role}\n"
    )
}

fn docs(text: &str) -> Vec<TargetDoc> {
    parse_toml(text, "config").expect("the document is right")
}

fn build(text: &str, context: &KindContext) -> Arc<dyn Target> {
    Registry::builtin().build(&docs(text)[0], context).expect("the target is built")
}

/// A role for whoever runs the test.
fn own_role(more: &str) -> String {
    let user = SshdFixture::user();
    let root = if user == "root" { "danger_allow_root = true\n" } else { "" };
    document("", &format!("principals = [\"{user}\"]\n{root}{more}"))
}

fn subject(target: &dyn Target, now: Timestamp) -> Subject<'_> {
    Subject { target, name: "bastion", kind: "ssh", role: "ops", store_id: STORE, now }
}

fn request(target: &dyn Target, key: &str, now: Timestamp, life: Duration) -> IssueRequest {
    let base = subject(target, now).request();
    IssueRequest { key: Some(key.into()), not_after: now.plus(life), ..base }
}

const LIFE: Duration = Duration::from_secs(120);

/// Writes the certificate where `ssh` and `ssh-keygen` find it.
fn kept(issued: &Issued, dir: &Path, name: &str) -> std::path::PathBuf {
    let file = dir.join(name);
    fs::write(&file, format!("{}\n", issued.access_token.expose())).expect("write");
    file
}

fn listed(certificate: &Path) -> String {
    let shown = Command::new("ssh-keygen").arg("-L").arg("-f").arg(certificate).output().expect("ssh-keygen runs");
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    String::from_utf8(shown.stdout).expect("text")
}

fn authority(context: &KindContext) -> String {
    // The line as `errand authority ssh show --public` prints it: 19 bytes of name and length, then the key.
    use base64::{Engine, engine::general_purpose::STANDARD};
    let spki = context.ssh.public().expect("an ssh key").spki_der;
    let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    blob.extend(&spki[12..]);
    format!("ssh-ed25519 {}\n", STANDARD.encode(blob))
}

#[tokio::test]
async fn ssh_keeps_the_law_of_minted_targets() {
    let dir = tempfile::tempdir().unwrap();
    let line = fs::read_to_string(key_pair(dir.path(), "id", &["-t", "ed25519"]).with_extension("pub")).unwrap();
    let target = build(&document("", "principals = [\"ubuntu\"]"), &context());
    holds_for_minted(&subject(&*target, SystemClock.now()), || Some(line.clone())).await;
}

/// Every kind of key that people have logs in, with a certificate that says what its role says and no more.
#[tokio::test]
async fn a_certificate_of_every_kind_of_key_logs_in_to_a_real_sshd() {
    let context = context();
    let sshd = SshdFixture::start(&authority(&context)).await;
    let target = build(&own_role("source_address = [\"127.0.0.0/8\"]"), &context);
    let kinds: [&[&str]; 5] = [
        &["-t", "ed25519"],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "ecdsa", "-b", "521"],
        &["-t", "rsa", "-b", "2048"],
    ];
    for (at, kind) in kinds.into_iter().enumerate() {
        let key = key_pair(sshd.dir(), &format!("id{at}"), kind);
        let line = fs::read_to_string(key.with_extension("pub")).unwrap();
        let request = request(&*target, &line, SystemClock.now(), LIFE);
        let issued = target.mint(&request).await.unwrap();
        let certificate = kept(&issued, sshd.dir(), &format!("id{at}-cert"));
        let shown = listed(&certificate);
        assert!(shown.contains("user certificate") && shown.contains(&SshdFixture::user()), "{shown}");
        assert!(shown.contains("source-address 127.0.0.0/8") && shown.contains("Extensions: (none)"), "{shown}");
        let login = sshd.login(&key, &certificate, "echo in");
        assert_eq!(String::from_utf8_lossy(&login.stdout), "in\n", "{kind:?} {}\n{}", shown, sshd.log());
        // The host's own log leads back to the task.
        let id = format!("ID \"{} task={} workload={}\"", request.name, request.task, request.workload);
        let logged = sshd.log();
        assert!(logged.contains(&id) || logged.contains(&id.replace('"', "")), "{logged}");
    }
}

#[tokio::test]
async fn after_its_end_and_from_elsewhere_a_certificate_is_refused_and_before_and_from_here_it_is_not() {
    let context = context();
    let sshd = SshdFixture::start(&authority(&context)).await;
    let key = key_pair(sshd.dir(), "id", &["-t", "ed25519"]);
    let line = fs::read_to_string(key.with_extension("pub")).unwrap();
    let now = SystemClock.now();
    let attempt = async |name: &str, document: &str, now: Timestamp| {
        let target = build(document, &context);
        let issued = target.mint(&request(&*target, &line, now, LIFE)).await.unwrap();
        sshd.login(&key, &kept(&issued, sshd.dir(), name), "echo in").status.success()
    };
    assert!(attempt("good", &own_role(""), now).await, "{}", sshd.log());
    assert!(!attempt("expired", &own_role(""), now.minus(LIFE * 2)).await);
    assert!(!attempt("early", &own_role(""), now.plus(LIFE)).await);
    assert!(!attempt("elsewhere", &own_role("source_address = [\"10.0.0.0/8\"]"), now).await);
    assert!(!attempt("another", &document("", "principals = [\"somebody-else\"]"), now).await);
    // And an authority that the host does not list certifies nothing.
    let stranger = crate::world::context();
    let target = build(&own_role(""), &stranger);
    let issued = target.mint(&request(&*target, &line, now, LIFE)).await.unwrap();
    assert!(!sshd.login(&key, &kept(&issued, sshd.dir(), "stranger"), "echo in").status.success());
}

#[tokio::test]
async fn a_forced_command_is_the_only_one_whatever_stands_in_it() {
    let context = context();
    let sshd = SshdFixture::start(&authority(&context)).await;
    let key = key_pair(sshd.dir(), "id", &["-t", "ed25519"]);
    let line = fs::read_to_string(key.with_extension("pub")).unwrap();
    let target = build(&own_role("force_command = \"echo 'a \\\"b\\\", c'\""), &context);
    let issued = target.mint(&request(&*target, &line, SystemClock.now(), LIFE)).await.unwrap();
    let login = sshd.login(&key, &kept(&issued, sshd.dir(), "forced"), "echo mine");
    assert_eq!(String::from_utf8_lossy(&login.stdout), "a \"b\", c\n", "{}", sshd.log());
}

#[tokio::test]
async fn what_a_task_was_given_lingers_to_its_end_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let line = fs::read_to_string(key_pair(dir.path(), "id", &["-t", "ed25519"]).with_extension("pub")).unwrap();
    let target = build(&document("", "principals = [\"ubuntu\"]"), &context());
    let now = SystemClock.now();
    let request = request(&*target, &line, now, LIFE);
    let issued = target.mint(&request).await.unwrap();
    let lease: Lease = subject(&*target, now).lease(&request, issued.handle);
    assert_eq!(target.revoke(&lease).await, Ok(Revoked::Lingers { until: request.not_after }));
}

/// K23: what is no key, or none that we certify; the accepted twin is the line each was made from.
#[tokio::test]
async fn bad_keys_are_refused_and_the_keys_they_were_made_from_are_certified() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, options: &[&str]| {
        fs::read_to_string(key_pair(dir.path(), name, options).with_extension("pub")).unwrap()
    };
    let good = make("good", &["-t", "ed25519"]);
    let rsa = make("rsa", &["-t", "rsa", "-b", "2048"]);
    let blob = |line: &str| line.split(' ').nth(1).unwrap().to_string();
    let context = context();
    let target = build(&document("", "principals = [\"ubuntu\"]"), &context);
    let now = SystemClock.now();
    let certified = target.mint(&request(&*target, &good, now, LIFE)).await.unwrap();
    let mut off_curve = make("ec", &["-t", "ecdsa", "-b", "256"]);
    off_curve = reencoded(&off_curve, |bytes| *bytes.last_mut().unwrap() ^= 1);
    for (case, line, words) in [
        ("empty", String::new(), "one line of OpenSSH"),
        ("no blob", "ssh-ed25519".into(), "one line of OpenSSH"),
        ("not base64", format!("ssh-ed25519 {}!", blob(&good)), "one line of OpenSSH"),
        ("another name", format!("ssh-rsa {}", blob(&good)), "one line of OpenSSH"),
        ("options before it", format!("command=\"x\" {good}"), "one line of OpenSSH"),
        ("two lines", format!("{good}{good}"), "one line of OpenSSH"),
        ("NUL", format!("{}\0", good.trim_end()), "one line of OpenSSH"),
        ("bytes behind the key", reencoded(&good, |bytes| bytes.push(0)), "OpenSSH"),
        ("cut", reencoded(&good, |bytes| bytes.truncate(bytes.len() - 1)), "one line of OpenSSH"),
        ("a certificate", certified.access_token.expose().clone(), "is a certificate"),
        ("a short RSA key", make("short", &["-t", "rsa", "-b", "1024"]), "2048 to 8192 bits"),
        ("an even RSA modulus", reencoded(&rsa, |b| *b.last_mut().unwrap() &= 0xfe), "2048 to 8192 bits"),
        ("an RSA exponent of 3", rsa_with_exponent(&rsa, 3), "2048 to 8192 bits"),
        ("a point off its curve", off_curve, "no point of its curve"),
        ("our own signing key", authority(&context), "own signing key"),
    ] {
        match target.mint(&request(&*target, &line, now, LIFE)).await {
            Err(IssueError::Refused { why }) => assert!(why.contains(words), "{case}: {why}"),
            Err(other) => panic!("{case}: {other}"),
            Ok(_) => panic!("{case}: certified"),
        }
    }
    for line in [good, rsa, make("ec384", &["-t", "ecdsa", "-b", "384"])] {
        target.mint(&request(&*target, &line, now, LIFE)).await.unwrap();
    }
}

fn reencoded(line: &str, change: impl Fn(&mut Vec<u8>)) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut words = line.split(' ');
    let (name, blob) = (words.next().expect("a name"), words.next().expect("a blob"));
    let mut bytes = STANDARD.decode(blob).expect("base64");
    change(&mut bytes);
    format!("{name} {}", STANDARD.encode(bytes))
}

/// `string "ssh-rsa", mpint e, mpint n` with another e.
fn rsa_with_exponent(line: &str, e: u8) -> String {
    reencoded(line, |bytes| {
        let rest = bytes.split_off(11 + 4 + 3);
        bytes.truncate(11);
        bytes.extend([0, 0, 0, 1, e]);
        bytes.extend(rest);
    })
}

/// K19–K22: what a role may not say.
#[test]
fn each_mistake_in_a_role_is_named_and_the_role_without_it_is_read() {
    let problems = |target: &str, role: &str| {
        let docs = docs(&document(target, role));
        Registry::builtin().build_all(docs, &context()).err().unwrap_or_default()
    };
    let good = "principals = [\"ubuntu\"]";
    for (target, role, words) in [
        ("", "", "`principals` is missing"),
        ("", "principals = []", "`principals` is missing"),
        ("", "principals = [\"deploy,root\"]", "principal `deploy,root`"),
        ("", "principals = [\"*\"]", "principal `*`"),
        ("", "principals = [\"a b\"]", "principal `a b`"),
        ("", "principals = [\"-a\"]", "principal `-a`"),
        ("", "principals = [\"a\\nb\"]", "control characters"),
        ("", "principals = [\"root\"]", "danger_allow_root"),
        ("", "principals = [\"ubuntu\"]\nmax_ttl = \"6m\"", "`max_ttl` is not between"),
        ("", "principals = [\"ubuntu\"]\nmax_ttl = \"0s\"", "`max_ttl` is not between"),
        ("", "principals = [\"ubuntu\"]\nsource_address = [\"0.0.0.0/0\"]", "allows every address"),
        ("", "principals = [\"ubuntu\"]\nsource_address = [\"::/0\"]", "allows every address"),
        ("", "principals = [\"ubuntu\"]\nsource_address = [\"10.1.0.0/8\"]", "behind its mask"),
        ("", "principals = [\"ubuntu\"]\nsource_address = [\"10.0.0.0/33\"]", "is not a network"),
        ("", "principals = [\"ubuntu\"]\nsource_address = [\"10.0.0.0\"]", "is not a network"),
        ("", "principals = [\"ubuntu\"]\nsource_address = [\"10.0.0.0/8,0.0.0.0/0\"]", "is not a network"),
        ("", "principals = [\"ubuntu\"]\nforce_command = \"a\\nb\"", "`force_command`"),
        ("", "principals = [\"ubuntu\"]\nextensions = [\"no-touch-required\"]", "extension `no-touch-required`"),
        ("", "principals = [\"ubuntu\"]\ncritical = 1", "unknown key `critical`"),
        ("port = 0", good, "`port`"),
        ("port = 65536", good, "`port`"),
        ("user = \"x\"", good, "unknown key `user`"),
    ] {
        let found = problems(target, role);
        assert!(found.iter().any(|p| p.problem.contains(words)), "{target} {role}: {found:#?}");
        assert_eq!(found.len(), 1, "{target} {role}: {found:#?}");
    }
    for host in ["-oProxyCommand=x", "a b", "user@host", "host:22", ""] {
        let text = document("", good).replace("127.0.0.1", host);
        assert!(Registry::builtin().build_all(docs(&text), &context()).is_err(), "{host}");
    }
    for (target, role) in [
        ("port = 2222", good),
        ("", "principals = [\"root\", \"deploy\"]\ndanger_allow_root = true"),
        (
            "",
            "principals = [\"ubuntu\"]\nmax_ttl = \"5m\"\nsource_address = [\"10.0.0.0/8\", \"fd00::/8\", \"192.0.2.1/32\"]",
        ),
        (
            "",
            "principals = [\"ubuntu\"]\nextensions = [\"permit-pty\", \"permit-port-forwarding\"]\nforce_command = \"a; \\\"b\\\"\"",
        ),
    ] {
        assert_eq!(problems(target, role), [], "{target} {role}");
    }
}

#[tokio::test]
async fn parameters_and_a_users_own_words_change_nothing_in_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let line = fs::read_to_string(key_pair(dir.path(), "id", &["-t", "ed25519"]).with_extension("pub")).unwrap();
    let target = build(&document("", "principals = [\"ubuntu\"]"), &context());
    let now = SystemClock.now();
    let plain = request(&*target, &line, now, LIFE);
    let asked = IssueRequest { params: serde_json::json!({"type": "x", "principals": ["root"]}), ..plain.clone() };
    assert!(matches!(target.mint(&asked).await, Err(IssueError::Refused { .. })));
    let user = Some("kim\" task=other\nID x".to_string());
    let issued = target.mint(&IssueRequest { user, ..plain.clone() }).await.unwrap();
    let shown = listed(&kept(&issued, dir.path(), "cert"));
    let id = format!("task={} workload={} user=kim__task=other_ID_x", plain.task, plain.workload);
    assert!(shown.contains(&id), "{shown}");
    assert_eq!(shown.matches("task=").count(), 2);
}

#[tokio::test]
async fn a_check_says_whether_anything_speaks_ssh_there() {
    let context = context();
    let sshd = SshdFixture::start(&authority(&context)).await;
    let good = build(&document(&format!("port = {}", sshd.port()), "principals = [\"ubuntu\"]"), &context);
    assert_eq!(good.check().await, []);
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    drop(silent);
    let found = build(&document(&format!("port = {port}"), "principals = [\"ubuntu\"]"), &context).check().await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].severity, "warning");
}

#[tokio::test]
async fn the_same_request_twice_gives_two_serials() {
    let dir = tempfile::tempdir().unwrap();
    let line = fs::read_to_string(key_pair(dir.path(), "id", &["-t", "ed25519"]).with_extension("pub")).unwrap();
    let context = KindContext { entropy: Arc::new(OsEntropy), ..context() };
    let target = build(&document("", "principals = [\"ubuntu\"]"), &context);
    let request = request(&*target, &line, SystemClock.now(), LIFE);
    let (one, two) = (target.mint(&request).await.unwrap(), target.mint(&request).await.unwrap());
    assert_ne!(one.handle["serial"], two.handle["serial"]);
}
