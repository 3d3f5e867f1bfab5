//! The SSH agent that `errand run` serves: what members of the task get of it, and that nobody else gets anything. Clients
//! and server are OpenSSH's.

use crate::fake::{Fake, Finished, SOON, Script, endpoint::key_of, finish, spawn, ssh};
use nix::sys::stat::Mode;
use serde_json::Value;
use std::{path::Path, time::Duration};
use testkit::poll::until;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

const RUN: [&str; 6] = ["run", "--grant", "bastion/ops", "--", "sh", "-c"];

fn script() -> Script {
    with(ssh::bastion())
}

fn with(credential: Value) -> Script {
    let mut script = Script::default();
    script.credentials.insert("bastion/ops".into(), credential);
    script.keyed.insert("bastion/ops".into(), "openssh".into());
    script
}

async fn shell(fake: &Fake, text: &str) -> Finished {
    finish(fake.errand(&[&RUN[..], &[text]].concat())).await
}

#[tokio::test]
async fn a_certificate_for_a_key_of_the_task_s_own_is_in_the_agent_and_nothing_on_disk() {
    let fake = Fake::start(script()).await;
    let finished = shell(&fake, "ssh-add -l; ls -A $ERRAND_DIR; ssh-add -L").await;
    assert_eq!((finished.status, finished.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = finished.stdout.lines().collect();
    assert!(lines[0].ends_with("bastion/ops (ED25519-CERT)"), "{}", lines[0]);
    assert_eq!(lines[1], "ssh-agent.sock", "nothing else");
    let seen = fake.seen();
    let [asked, again] = &seen.exchanges[..] else { panic!("{:?}", seen.exchanges) };
    assert_eq!(key_of(&asked.0), None, "a key is made when one is wanted");
    assert!(key_of(&again.0).unwrap().starts_with("ssh-ed25519 "));
    assert_ne!(asked.1, again.1, "another request, another idempotency key");
}

#[tokio::test]
async fn a_server_admits_the_task_and_gets_no_use_of_the_agent_when_it_is_forwarded() {
    let fake = Fake::start(script()).await;
    let (_server, there) = ssh::server(fake.dir()).await;
    let text = format!("ssh {there} 'echo admitted'; ssh -A {there} 'ssh-add -l 2>&1; echo $?'");
    let finished = shell(&fake, &text).await;
    let expected = "admitted\nerror fetching identities: agent refused operation\n1\n";
    assert_eq!(finished.stdout, expected, "{}", finished.stderr);
}

#[tokio::test]
async fn nothing_but_user_authentication_is_signed_and_the_agent_is_not_changed() {
    let fake = Fake::start(script()).await;
    let key = ssh::new_key(fake.dir(), "mine").display().to_string();
    let text = format!(
        "ssh-add -L > task.pub; echo text > text; ssh-keygen -Y sign -f task.pub -n file text; echo sign=$?; \
         for args in -D -x '{key}' '-d task.pub'; do echo | SSH_ASKPASS=true ssh-add $args; echo $?; done; ssh-add -L | cmp - task.pub && echo same"
    );
    let finished = shell(&fake, &text).await;
    assert_eq!(finished.stdout, "sign=255\n1\n1\n1\n1\nsame\n", "{}", finished.stderr);
    assert!(finished.stderr.contains("agent refused operation"), "{}", finished.stderr);
    assert!(!fake.dir().join("text.sig").exists());
}

/// CMD prints `$SSH_AUTH_SOCK`, waits for the fifo, and then asks the agent.
async fn waiting(fake: &Fake) -> (tokio::process::Child, String) {
    nix::unistd::mkfifo(&fake.dir().join("fifo"), Mode::S_IRWXU).unwrap();
    let text = "echo $SSH_AUTH_SOCK; read line < fifo; ssh-add -l > listed 2>&1; echo $?";
    let mut errand = spawn(fake.errand(&[&RUN[..], &[text]].concat()));
    let mut lines = BufReader::new(errand.stdout.as_mut().unwrap()).lines();
    let socket = lines.next_line().await.unwrap().unwrap();
    (errand, socket)
}

/// Lets it go on; what it and `errand run` said.
async fn said(fake: &Fake, mut errand: tokio::process::Child) -> (String, String) {
    tokio::fs::write(fake.dir().join("fifo"), "go\n").await.unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    errand.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
    errand.stderr.take().unwrap().read_to_string(&mut err).await.unwrap();
    errand.wait().await.unwrap();
    (out, err)
}

#[tokio::test]
async fn a_process_outside_the_task_gets_nothing_and_the_task_goes_on() {
    let fake = Fake::start(script()).await;
    let (errand, socket) = waiting(&fake).await;
    for _ in 0..2 {
        let mut stranger = tokio::process::Command::new("ssh-add");
        let output = stranger.arg("-l").env("SSH_AUTH_SOCK", &socket).output().await.unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    }
    let (out, err) = said(&fake, errand).await;
    assert_eq!(out, "0\n", "a member is served");
    assert!(err.contains("turned away") && err.lines().count() == 1, "said once: {err}");
}

#[tokio::test]
async fn the_agent_is_gone_with_the_task_while_the_command_lives() {
    let fake = Fake::start(script()).await;
    let (errand, socket) = waiting(&fake).await;
    assert!(Path::new(&socket).exists());
    fake.end_task("revoked").await;
    until("the socket is gone", SOON, || async { !Path::new(&socket).exists() }).await;
    let (out, _) = said(&fake, errand).await;
    assert_eq!(out, "2\n", "no agent answers");
}

#[tokio::test]
async fn a_certificate_that_expires_before_the_task_is_renewed_for_the_same_key() {
    let fake = Fake::start(Script { credential_ttl: Some(Duration::from_secs(3)), ..script() }).await;
    let text = "first=$(ssh-add -L); while [ \"$(ssh-add -L)\" = \"$first\" ]; do sleep 0.05; done; ssh-add -l";
    let finished = shell(&fake, text).await;
    assert_eq!((finished.status, finished.stdout.lines().count()), (0, 1), "{}", finished.stderr);
    let seen = fake.seen();
    let keys: Vec<_> = seen.exchanges.iter().map(|(form, ..)| key_of(form)).collect();
    assert_eq!(keys[0], None);
    assert!(keys[1].is_some() && keys[1..].iter().all(|key| *key == keys[1]), "{keys:?}");
    assert!(keys.len() > 2);
    let unique: std::collections::BTreeSet<_> = seen.exchanges.iter().map(|(_, key, _)| key).collect();
    assert_eq!(unique.len(), keys.len(), "each credential is asked for by itself");
}

#[tokio::test]
async fn static_placement_writes_a_private_key_and_its_certificate_beside_it() {
    let fake = Fake::start(script()).await;
    let (_server, there) = ssh::server(fake.dir()).await;
    let text = format!(
        "echo \"[$SSH_AUTH_SOCK]\"; cd $ERRAND_DIR; stat -c '%a %n' *; ssh-keygen -y -f $ERRAND_CRED_BASTION_OPS_FILE; \
         ssh-keygen -L -f bastion.ops.key-cert.pub | grep -c 'ssh-ed25519-cert-v01@openssh.com user certificate'; \
         ssh -i $ERRAND_CRED_BASTION_OPS_FILE {there} 'echo admitted'"
    );
    let args = ["run", "--place", "static", "--grant", "bastion/ops", "--", "sh", "-c", &text];
    let finished = finish(fake.errand(&args)).await;
    let key = key_of(&fake.seen().exchanges[1].0).unwrap();
    let expected = format!("[]\n600 bastion.ops.key\n600 bastion.ops.key-cert.pub\n{key} bastion/ops\n1\nadmitted\n");
    assert_eq!(finished.stdout, expected, "{}", finished.stderr);
}

#[tokio::test]
async fn a_certificate_for_another_key_and_a_key_that_cannot_be_made_run_nothing() {
    let foreign = |fake: &Fake| {
        let key = ssh::new_key(fake.dir(), "foreign");
        let mut credential = ssh::bastion();
        let line = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        credential["certificate"] = ssh::certificate(fake.dir(), line.trim_end()).into();
        fake.script().credentials.insert("bastion/ops".into(), credential);
    };
    let unknown = |fake: &Fake| drop(fake.script().keyed.insert("bastion/ops".into(), "spki".into()));
    type Arrange<'a> = &'a dyn Fn(&Fake);
    let cases: [(Arrange<'_>, i32, &str); 2] =
        [(&foreign, 125, "for another key"), (&unknown, 1, "a key of the format `spki`")];
    for (arrange, status, why) in cases {
        let fake = Fake::start(script()).await;
        arrange(&fake);
        let finished = shell(&fake, "touch ran").await;
        assert_eq!(finished.status, status, "{}", finished.stderr);
        assert!(finished.stderr.contains(why), "{}", finished.stderr);
        assert!(!fake.dir().join("ran").exists());
        assert_eq!(fake.seen().revoked.len(), 1, "the task is taken back");
    }
}

#[tokio::test]
async fn exchange_prints_a_certificate_for_a_key_that_the_caller_names() {
    let fake = Fake::start(script()).await;
    let key = ssh::new_key(fake.dir(), "id");
    let args = ["exchange", "bastion/ops", "--as", "ssh", "--key", "id.pub"];
    let finished = finish(fake.errand(&args)).await;
    std::fs::write(fake.dir().join("id-cert.pub"), &finished.stdout).unwrap();
    let shown = ssh::tool("ssh-keygen", &["-L", "-f", "id-cert.pub"], fake.dir());
    assert!(shown.contains("user certificate"), "{shown}");
    {
        let seen = fake.seen();
        let sent = key_of(&seen.exchanges[0].0).unwrap();
        let own = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        assert_eq!(format!("{sent} a comment\n"), own, "without its comment");
    }
    let keyless = finish(fake.errand(&["exchange", "bastion/ops", "--as", "ssh"])).await;
    assert_eq!((keyless.status, keyless.stdout.as_str()), (1, ""));
    assert!(keyless.stderr.contains("--key FILE.pub"), "{}", keyless.stderr);
    let exchanges = fake.seen().exchanges.len();
    let private = finish(fake.errand(&["exchange", "bastion/ops", "--as", "ssh", "--key", "id"])).await;
    assert_eq!((private.status, fake.seen().exchanges.len()), (2, exchanges), "{}", private.stderr);
}
