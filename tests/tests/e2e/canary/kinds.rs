//! The secrets of an SSH and an AWS grant: the private key that `errand run` holds and the one that certified it, the
//! session that an STS gave, and the token that bought it.

use super::search::{Places, Secret, children};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::FutureExt as _;
use proto_jose::{JwksUses, KeySet};
use proto_types::{Secret as Hidden, SystemClock};
use server_authority::{
    Kek,
    seal::{Place, open},
};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::Arc,
};
use testkit::sts::{RoleTrust, StandInSts, Trust};
use tests::world::{DEPLOY, World, get, written};

/// What [`StandInSts`] gives first.
const ACCESS_KEY: &str = "ASIASTANDIN000000001";
const SESSION: [(&str, &[u8]); 2] =
    [("the secret access key", b"secret/of+session1"), ("the session token", b"token/of+session1==")];
/// PKCS#8 of an Ed25519 key, version 1: the seed is at its end.
const SEED: usize = 32;

async fn sts(world: &World) -> StandInSts {
    let keys = get(&world.layout.ca_file(), world.layout.public, "/keys").await;
    StandInSts::start(Trust {
        issuer: world.layout.issuer(),
        audience: "sts.test".into(),
        keys: KeySet::from_jwks(&keys.body, JwksUses::Oidc).unwrap(),
        roles: BTreeMap::from([(DEPLOY.into(), RoleTrust::for_subject(world.workload("planner")))]),
        clock: Arc::new(SystemClock),
        given: 0,
    })
    .await
}

/// `bastion` with the role `ops`, and `lake` with the role `deploy`.
async fn declare(world: &World, sts: &str) {
    let text = format!(
        "[[target]]\nname = \"bastion\"\nkind = \"ssh\"\nhost = \"127.0.0.1\"\n\
         [[target.role]]\nname = \"ops\"\nprincipals = [\"ubuntu\"]\n\
         [[target]]\nname = \"lake\"\nkind = \"aws\"\nregion = \"us-east-1\"\nsts_endpoint = \"{sts}\"\n\
         audience = \"sts.test\"\ndanger_allow_http = true\n\
         [[target.role]]\nname = \"deploy\"\nrole_arn = \"{DEPLOY}\"\nsession_duration = \"15m\"\n"
    );
    let file = world.layout.write("targets.toml", &text);
    world.operator(["target", "apply", "-f", &file]).await;
}

/// The seed of the key whose public half `ssh-add -L` shows, from the memory of the process that holds it: the crypto
/// library keeps the one before the other.
fn key_in_memory(pid: i32, shown: &str) -> Vec<u8> {
    let blob = STANDARD.decode(shown.split(' ').nth(1).unwrap()).unwrap();
    let mut fields = Vec::new();
    let mut rest = &blob[..];
    while fields.len() < 3 {
        let (length, after) = rest.split_first_chunk::<4>().unwrap();
        let (field, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        fields.push(field);
        rest = after;
    }
    let public = fields[2];
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    for line in fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines().filter(|l| l.contains(" rw")) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|n| u64::from_str_radix(n, 16).unwrap());
        let mut bytes = Vec::new();
        // Some mappings cannot be read to their end; what was read is looked at.
        let _ = memory.seek(SeekFrom::Start(from)).and_then(|_| (&memory).take(to - from).read_to_end(&mut bytes));
        let found = bytes.windows(public.len()).enumerate().skip(SEED).filter(|(_, w)| *w == public);
        for (at, _) in found {
            let seed = &bytes[at - SEED..at];
            if Ed25519KeyPair::from_seed_and_public_key(seed, public).is_ok() {
                return seed.to_vec();
            }
        }
    }
    panic!("process {pid} does not hold the key of {shown}")
}

/// The seed of the server's SSH authority, opened with its key-encryption key.
fn authority_key(world: &World) -> Vec<u8> {
    let kek = Kek::load(&world.layout.dir().join("kek")).unwrap();
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let store = rusqlite::Connection::open_with_flags(world.layout.store(), flags).unwrap();
    let (id, sealed): (String, Vec<u8>) = store
        .query_row("SELECT id, sealed FROM authority WHERE use = 'ssh' AND state = 'active'", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    let store_id: String = store.query_row("SELECT store_id FROM meta", [], |row| row.get(0)).unwrap();
    let place = Place { store_id: &store_id, table: "authority", row: &id };
    let pkcs8: Hidden<Vec<u8>> =
        open(&kek, &place, &sealed).now_or_never().expect("a key in a file waits for nobody").unwrap();
    let pkcs8 = pkcs8.expose();
    pkcs8[pkcs8.len() - SEED..].to_vec()
}

/// Invariant 12, for what `errand run` serves and places nowhere.
#[tokio::test]
async fn no_key_session_or_token_of_an_ssh_or_aws_grant_is_found_anywhere() {
    let world = World::of_processes().await;
    world.permits_everything().await;
    let sts = sts(&world).await;
    declare(&world, &sts.url()).await;

    let [file, end] = ["shown", "end"].map(|name| world.layout.dir().join(name));
    let script = format!(
        "{{ ssh-add -L; echo $ERRAND_DIR; echo $$; }} > {0}.new; mv {0}.new {0}; while ! [ -e {1} ]; do sleep 0.05; done",
        file.display(),
        end.display()
    );
    let grants = ["--ttl", "20m", "--grant", "bastion/ops", "--grant", "lake/deploy", "--", "sh", "-c", &script];
    let run = world.run(grants).start();
    let shown = written(&file).await;
    let [certificate, dir, command] = shown.lines().collect::<Vec<_>>()[..] else { panic!("{shown}") };

    // A grant that fails speaks of it, and an STS may repeat what it was sent.
    let token = sts.calls()[0]["WebIdentityToken"].clone();
    let echo = format!("<ErrorResponse><Error><Code>X</Code><Message>no: {token}</Message></Error></ErrorResponse>");
    sts.answers_xml(403, &echo);
    let refused = world.errand(["exchange", "lake/deploy", "--ttl", "20m", "--as", "json"]).to_end().await;
    assert!(refused.code != Some(0) && refused.stderr.contains("lake/deploy"), "{}", refused.stderr);

    let pids = [run.pid, world.server.process().pid(), world.node.process().pid()];
    assert!(children(run.pid).contains(&command.parse().unwrap()), "the command is looked at");
    let mut places = Places::of(&world, &pids, &[]).await;
    places.add("an error", refused.stderr);
    places.add_files(&PathBuf::from(dir), &[]);
    assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
    places.must_hold(
        &[
            "journal export",
            "server/errand.db",
            "server.log",
            "node.log",
            "metrics",
            dir,
            &format!("/proc/{command}/environ"),
        ],
        &[("journal export", ACCESS_KEY), ("server/errand.db", ACCESS_KEY), ("journal export", "bastion")],
    );
    let mut parts = token.split('.').map(|part| part.as_bytes().to_vec());
    let (_, claims, signature) = (parts.next(), parts.next().unwrap(), parts.next().unwrap());
    let mut secrets: Vec<Secret> = SESSION.iter().map(|(what, text)| (*what, text.to_vec())).collect();
    secrets.extend([
        ("the key of the task", key_in_memory(run.pid, certificate)),
        ("the key of the SSH authority", authority_key(&world)),
        ("the claims of the token for the STS", claims),
        ("the signature of the token for the STS", signature),
    ]);
    places.must_not_hold(&secrets);

    fs::write(&end, "").unwrap();
    run.finish().await.exited(0);
    world.ends_well().await;
}
