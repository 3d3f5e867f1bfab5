//! `errand run` with an SSH role, against a real OpenSSH that trusts our authority and nothing else. Invariants 1, 4 and 8.

use std::path::Path;
use testkit::{openssh::SshdFixture, poll};
use tests::world::{SOON, World};

/// A world with a bastion that lets in whoever runs the test.
async fn world() -> (World, SshdFixture) {
    let world = World::start().await;
    let keys = world.operator(["authority", "ssh", "show"]).await;
    let line = keys["authorities"][0]["public"].as_str().unwrap();
    let sshd = SshdFixture::start(&format!("{line}\n")).await;
    let user = SshdFixture::user();
    let root = if user == "root" { "danger_allow_root = true\n" } else { "" };
    let target = format!(
        "[[target]]\nname = \"bastion\"\nkind = \"ssh\"\nhost = \"127.0.0.1\"\nport = {}\n[[target.role]]\nname = \"ops\"\n\
         principals = [\"{user}\"]\n{root}",
        sshd.port()
    );
    let file = world.layout.write("bastion.toml", &target);
    world.operator(["target", "apply", "-f", &file]).await;
    world.permits_everything().await;
    (world, sshd)
}

/// What `ssh` is called with: nothing of it names a key.
fn ssh(sshd: &SshdFixture, command: &str) -> Vec<String> {
    let mut words = vec!["ssh".to_string()];
    words.extend(sshd.client_options());
    words.extend([format!("{}@127.0.0.1", SshdFixture::user()), command.into()]);
    words
}

#[tokio::test]
async fn ssh_logs_in_with_nothing_but_the_agent_s_socket_and_the_host_s_log_leads_back_to_the_task() {
    let (world, sshd) = world().await;
    let login = ssh(&sshd, "echo in").join(" ");
    let script = format!("echo \"$SSH_AUTH_SOCK\"; ssh-add -l | wc -l; {login}");
    let run = ["--intent", "look at the disk", "--grant", "bastion/ops", "--", "sh", "-c", &script];
    let done = world.run(run).to_end().await.exited(0);
    let said: Vec<&str> = done.stdout.lines().map(str::trim).collect();
    assert_eq!(said[1..], ["1", "in"], "{}\n{}", done.stderr, sshd.log());
    assert!(said[0].starts_with('/') && !Path::new(said[0]).exists(), "the socket is gone: {}", said[0]);

    let log = sshd.log();
    let id = log.split_once("Accepted publickey").and_then(|(_, rest)| rest.split_once("ID ")).unwrap().1;
    let name = id.split_whitespace().next().unwrap();
    let serial = id.split_once("(serial ").unwrap().1.split_once(')').unwrap().0;
    for what in [name, serial] {
        let who = world.operator(["who", what]).await;
        assert_eq!(who["task"]["intent"], "look at the disk", "{what}: {who}");
        assert_eq!(
            (&who["lease"]["target"], &who["lease"]["role"]),
            (&"bastion".into(), &"ops".into()),
            "{what}: {who}"
        );
    }
    let state = async || world.operator(["lease", "list"]).await["leases"][0]["state"].clone();
    poll::until("what nobody can revoke lingers to its end", SOON, async || state().await == "lingering").await;
}

#[tokio::test]
async fn without_the_grant_nobody_gets_in_and_with_it_another_user_does_not() {
    let (world, sshd) = world().await;
    let login = ssh(&sshd, "echo in");
    let words = |words: &[String]| words.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let other = words(&login).replace(&format!("{}@", SshdFixture::user()), "nobody@");
    let run = |command: &str| {
        let command = command.to_string();
        world.run(["--intent", "try", "--grant", "bastion/ops", "--", "sh", "-c", &command]).to_end()
    };
    assert_ne!(run(&other).await.code, Some(0));
    let no_grant = world.run(["--intent", "try", "--", "sh", "-c", &words(&login)]).to_end().await;
    assert_ne!(no_grant.code, Some(0), "{}", no_grant.stderr);
    run(&words(&login)).await.exited(0);
}
