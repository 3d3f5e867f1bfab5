//! The key-encryption key where it cannot be taken out: in a PKCS#11 token (SoftHSM) and in a transit engine (OpenBao).

use serde_json::{Value, json};
use std::{fs, path::Path};
use tests::world::{Command, Daemon, Layout, OpenBao, TRUST_DOMAIN};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "123456";

/// The configuration of a server whose key-encryption key is where `kek` says.
fn configured(layout: &Layout, name: &str, kek: &str) -> String {
    let file = format!("[authority]\nkek_file = \"{}/kek\"\n", layout.dir().display());
    let text = layout.server_toml();
    assert!(text.contains(&file), "{text}");
    layout.write(name, &(text.replace(&file, "") + kek))
}

/// Starts such a server. What it said, when it does not start.
async fn start(layout: &Layout, kek: &str) -> Result<Daemon, String> {
    let config = configured(layout, "server.toml", kek);
    let (home, log) = (layout.dir().join("home"), layout.dir().join("server.log"));
    let _ = fs::remove_file(&log);
    let mut daemon = Daemon::start(&["server", "run", "--config", &config], &home, log);
    match daemon.is_ready().await {
        true => Ok(daemon),
        false => {
            assert_ne!(daemon.ends().await, Some(0));
            Err(daemon.log())
        }
    }
}

async fn starts(layout: &Layout, kek: &str) -> Daemon {
    start(layout, kek).await.unwrap_or_else(|said| panic!("it does not start:\n{said}"))
}

async fn refuses(layout: &Layout, kek: &str, why: &str) {
    let said = start(layout, kek).await.err().unwrap_or_else(|| panic!("it starts, which was to fail with {why:?}"));
    assert!(said.contains(why), "{why:?} is not in\n{said}");
}

fn errand(layout: &Layout, args: &[&str]) -> Command {
    Command::new(layout, Path::new("/nonexistent")).args(args.iter().copied())
}

async fn keys(layout: &Layout) -> Value {
    errand(layout, &["authority", "x509", "show", "--output", "json"]).to_end().await.exited(0).json()
}

/// A server that made a key beside its first ones has them all when it starts again.
async fn keeps_its_keys(layout: &Layout, kek: &str) {
    let mut daemon = starts(layout, kek).await;
    let first = keys(layout).await;
    errand(layout, &["authority", "x509", "prepare"]).to_end().await.exited(0);
    let made = keys(layout).await;
    assert_ne!(made, first);
    daemon.stop().await;
    let mut daemon = starts(layout, kek).await;
    assert_eq!(keys(layout).await, made);
    daemon.stop().await;
}

/// A token of SoftHSM in the home of a server.
struct SoftHsm<'a>(&'a Layout);

impl<'a> SoftHsm<'a> {
    fn new(layout: &'a Layout) -> Self {
        let dir = layout.dir();
        let settings = dir.join("home/.config/softhsm2");
        fs::create_dir_all(&settings).expect("a directory");
        fs::create_dir(dir.join("tokens")).expect("a directory");
        let conf = format!("directories.tokendir = {}/tokens\nlog.level = ERROR\n", dir.display());
        fs::write(settings.join("softhsm2.conf"), conf).expect("a file");
        layout.write("pin", PIN);
        let token = Self(layout);
        token.run("softhsm2-util", &["--init-token", "--free", "--label", "house", "--pin", PIN, "--so-pin", "654321"]);
        token
    }

    fn run(&self, program: &str, args: &[&str]) {
        let mut command = std::process::Command::new(program);
        command.args(args).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.0.dir().join("home"));
        let done = command.output().unwrap_or_else(|e| panic!("{program}: {e}; run: apt-get install softhsm2 opensc"));
        assert!(done.status.success(), "{program} {args:?}: {done:?}");
    }

    fn tool(&self, args: &[&str]) {
        let common = ["--module", MODULE, "--token-label", "house", "--login", "--pin", PIN];
        self.run("pkcs11-tool", &[&common[..], args].concat());
    }

    fn makes(&self, kind: &str, label: &str, more: &[&str]) {
        self.tool(&[&["--keygen", "--key-type", kind, "--label", label, "--sensitive"], more].concat());
    }

    fn forgets(&self, label: &str) {
        self.tool(&["--delete-object", "--type", "secrkey", "--label", label]);
    }

    fn section(&self, token: &str, key: &str) -> String {
        let pin = self.0.dir().join("pin");
        format!(
            "\n[authority.kek_pkcs11]\nmodule = \"{MODULE}\"\ntoken = \"{token}\"\nkey = \"{key}\"\npin_file = {pin:?}\n"
        )
    }
}

#[tokio::test]
async fn a_server_seals_its_keys_with_one_in_a_token_and_starts_with_no_other() {
    let layout = Layout::new();
    let token = SoftHsm::new(&layout);
    let kek = |key: &str| token.section("house", key);
    // One of each that is not taken, before there is anything to open; then the one that is.
    token.makes("AES:16", "short", &[]);
    token.makes("AES:32", "loose", &["--extractable"]);
    refuses(&layout, &kek("absent"), "pkcs11-tool").await;
    refuses(&layout, &kek("short"), "16 bytes").await;
    refuses(&layout, &kek("loose"), "taken out").await;
    refuses(&layout, &token.section("home", "kek"), "no slot has a token of this label").await;
    token.makes("AES:32", "kek", &[]);
    token.makes("AES:32", "other", &[]);
    keeps_its_keys(&layout, &kek("kek")).await;

    refuses(&layout, &kek("other"), "name the right one").await;
    layout.write("pin", "654321");
    refuses(&layout, &kek("kek"), "the login failed").await;
    layout.write("pin", PIN);
    starts(&layout, &kek("kek")).await.stop().await;

    token.forgets("kek");
    token.makes("AES:32", "kek", &[]);
    refuses(&layout, &kek("kek"), "another key has the name").await;
}

#[tokio::test]
async fn a_server_seals_its_keys_with_one_in_a_transit_engine_and_signs_on_while_that_is_away() {
    let layout = Layout::new();
    let mut bao = OpenBao::bare(&layout).await;
    layout.write("bao-token", "root\n");
    let kek = |key: &str| {
        let token = layout.dir().join("bao-token");
        format!("\n[authority.kek_transit]\naddress = \"{}\"\nkey = \"{key}\"\ntoken_file = {token:?}\n", bao.address())
    };
    let (good, other, absent) = (kek("house"), kek("other"), kek("absent"));
    let (stream, loose) = (kek("stream"), kek("loose"));
    bao.must("sys/mounts/transit", &json!({ "type": "transit" })).await;
    refuses(&layout, &absent, "bao write -f transit/keys/absent").await;
    bao.must("transit/keys/stream", &json!({ "type": "chacha20-poly1305" })).await;
    refuses(&layout, &stream, "chacha20-poly1305").await;
    bao.must("transit/keys/loose", &json!({ "type": "aes256-gcm96", "exportable": true })).await;
    refuses(&layout, &loose, "taken out").await;
    for name in ["house", "other"] {
        bao.must(&format!("transit/keys/{name}"), &json!({ "type": "aes256-gcm96" })).await;
    }
    keeps_its_keys(&layout, &good).await;
    refuses(&layout, &other, "name the right one").await;

    // The engine's own rotation needs nothing here.
    bao.must("transit/keys/house/rotate", &json!({})).await;
    keeps_its_keys(&layout, &good).await;

    layout.write("bao-token", "nobody");
    refuses(&layout, &good, "403").await;
    layout.write("bao-token", "root");
    let mut daemon = starts(&layout, &good).await;
    let prepared = keys(&layout).await;
    let next = prepared["authorities"].as_array().into_iter().flatten().find(|a| a["state"] == "prepared");
    let next = next.and_then(|a| a["id"].as_str()).unwrap_or_else(|| panic!("one is prepared: {prepared}"));
    bao.stop();
    // A key that was prepared begins to sign; only a new one has to wait.
    errand(&layout, &["authority", "x509", "activate", next]).to_end().await.exited(0);
    let refused = errand(&layout, &["authority", "x509", "prepare"]).to_end().await.exited(69);
    assert!(refused.stderr.contains("key-encryption key"), "{}", refused.stderr);
    let shown = errand(&layout, &["bundle", "show"]).to_end().await.exited(0);
    assert!(shown.stdout.contains("BEGIN CERTIFICATE"), "{TRUST_DOMAIN}: {}", shown.stdout);
    daemon.stop().await;
    refuses(&layout, &good, "no connection").await;
}

#[tokio::test]
async fn a_store_moves_from_a_file_into_a_token_and_a_service_and_back_with_the_same_keys() {
    let layout = Layout::new();
    let token = SoftHsm::new(&layout);
    token.makes("AES:32", "kek", &[]);
    let bao = OpenBao::bare(&layout).await;
    bao.must("sys/mounts/transit", &json!({ "type": "transit" })).await;
    bao.must("transit/keys/house", &json!({ "type": "aes256-gcm96" })).await;
    let bao_token = layout.write("bao-token", "root");
    let transit = format!(
        "\n[authority.kek_transit]\naddress = \"{}\"\nkey = \"house\"\ntoken_file = {bao_token:?}\n",
        bao.address()
    );
    let file = |name: &str| format!("\n[authority]\nkek_file = \"{}/{name}\"\n", layout.dir().display());
    let mut before = file("kek");
    let mut daemon = starts(&layout, &before).await;
    let mine = keys(&layout).await;
    let rekey = async || {
        let (config, from) = (layout.dir().join("server.toml"), layout.dir().join("before.toml"));
        let args = ["store", "rekey", "--config", &config.display().to_string(), "--from", &from.display().to_string()];
        errand(&layout, &args).to_end().await
    };
    configured(&layout, "before.toml", &before);
    configured(&layout, "server.toml", &token.section("house", "kek"));
    let refused = rekey().await;
    assert!(refused.stderr.contains("stop it first"), "{}", refused.stderr);
    daemon.stop().await;

    for kek in [token.section("house", "kek"), transit, file("another")] {
        configured(&layout, "before.toml", &before);
        refuses(&layout, &kek, if kek.contains("another") { "another" } else { "name the right one" }).await;
        let said = rekey().await.exited(0).stderr;
        assert!(said.contains("5 signing keys"), "{said}");
        assert!(rekey().await.exited(0).stderr.contains("already"));
        let mut daemon = starts(&layout, &kek).await;
        assert_eq!(keys(&layout).await, mine);
        daemon.stop().await;
        refuses(&layout, &before, "name the right one").await;
        configured(&layout, "server.toml", &kek);
        configured(&layout, "before.toml", &kek);
        assert!(rekey().await.stderr.contains("the same key-encryption key"));
        before = kek;
    }
}

#[tokio::test]
async fn a_transit_key_that_was_made_anew_under_its_old_name_is_found_out() {
    let layout = Layout::new();
    let bao = OpenBao::bare(&layout).await;
    let token = layout.write("bao-token", "root");
    let kek = format!(
        "\n[authority.kek_transit]\naddress = \"{}\"\nkey = \"house\"\ntoken_file = {token:?}\n",
        bao.address()
    );
    bao.must("sys/mounts/transit", &json!({ "type": "transit" })).await;
    bao.must("transit/keys/house", &json!({ "type": "aes256-gcm96" })).await;
    starts(&layout, &kek).await.stop().await;
    bao.must("transit/keys/house/config", &json!({ "deletion_allowed": true })).await;
    bao.forget("transit/keys/house").await;
    bao.must("transit/keys/house", &json!({ "type": "aes256-gcm96" })).await;
    refuses(&layout, &kek, "another key has the name").await;
}
