//! Where secrets are looked for, and how: as they are, as base64 and as hex, in everything that a world leaves behind.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};
use tests::world::{World, metrics};

/// What a secret is called, and its bytes.
pub type Secret = (&'static str, Vec<u8>);

/// Places to look in: what they are called, and their bytes.
#[derive(Default)]
pub struct Places(Vec<(String, Vec<u8>)>);

impl Places {
    /// What the world's operator, its files and its `daemons` show. `but`: where secrets of this test belong.
    pub async fn of(world: &World, daemons: &[i32], but: &[PathBuf]) -> Self {
        let mut places = Self::default();
        places.add_journal(world).await;
        for list in ["task list --all", "lease list --all", "target list", "journal search --all", "node list"] {
            let printed = world.operator(list.split(' ')).await;
            places.add(&format!("errand {list}"), printed.to_string());
        }
        for target in world.operator(["target", "list"]).await["targets"].as_array().unwrap() {
            let shown = world.operator(["target", "show", target["name"].as_str().unwrap()]).await;
            places.add("errand target show", shown.to_string());
        }
        places.add("metrics", metrics(world.layout.metrics).await);
        // The operator's own secret lies where it was put, and the key-encryption key where it belongs.
        let theirs = [world.layout.dir().join("secrets"), world.layout.dir().join("kek")];
        let but: Vec<PathBuf> = theirs.into_iter().chain(but.iter().cloned()).collect();
        places.add_files(world.layout.dir(), &but);
        places.add_processes(daemons);
        places
    }

    pub fn add(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.0.push((name.into(), bytes.into()));
    }

    async fn add_journal(&mut self, world: &World) {
        let export = world.errand(["journal", "export"]).to_end().await.exited(0);
        for line in export.stdout.lines() {
            // Records are exported as the bytes that are stored, in base64.
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let body = line["body"].as_str().map(|b| STANDARD.decode(b).unwrap()).unwrap_or_default();
            self.add("journal export", [line.to_string().into_bytes(), body].concat());
        }
    }

    /// Every file below `folder`.
    pub fn add_files(&mut self, folder: &Path, but: &[PathBuf]) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() && !but.contains(&path) {
                self.add_files(&path, but);
            } else if path.is_file() && !but.contains(&path) {
                self.add(&path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }

    /// Everybody's command line and variables, as far as this user may see them; and what `daemons` and their children
    /// hold open, under whatever name or none.
    fn add_processes(&mut self, daemons: &[i32]) {
        let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        for pid in pids {
            for name in ["cmdline", "environ"] {
                let path = format!("/proc/{pid}/{name}");
                let bytes = fs::read(&path).unwrap_or_default();
                self.add(&path, bytes);
            }
        }
        for pid in daemons.iter().copied().chain(daemons.iter().flat_map(|p| children(*p))) {
            for open in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                let path = open.path();
                let mut bytes = Vec::new();
                let opened =
                    fs::metadata(&path).ok().filter(fs::Metadata::is_file).and_then(|_| fs::File::open(&path).ok());
                if opened.is_some_and(|file| file.take(1 << 26).read_to_end(&mut bytes).is_ok()) {
                    self.add(&format!("{} ({:?})", path.display(), fs::read_link(&path)), bytes);
                }
            }
        }
    }

    /// The search looks in the right places: each is there, and what is no secret is found in some.
    pub fn must_hold(&self, there: &[&str], found: &[(&str, &str)]) {
        for place in there {
            let looked_at = self.0.iter().any(|(name, bytes)| name.contains(place) && !bytes.is_empty());
            assert!(looked_at, "{place} is not looked at");
        }
        for (place, what) in found {
            let is_in = self.0.iter().any(|(name, bytes)| name.contains(place) && holds(bytes, what.as_bytes()));
            assert!(is_in, "{what} is not in {place}");
        }
    }

    pub fn must_not_hold(&self, secrets: &[Secret]) {
        for (what, secret) in secrets {
            assert!(secret.len() >= 18, "{what} is too short to be looked for");
            for form in [secret.clone(), STANDARD.encode(secret).into_bytes(), hex::encode(secret).into_bytes()] {
                for (name, bytes) in &self.0 {
                    assert!(!holds(bytes, &form), "{what} is in {name}");
                }
            }
        }
    }
}

pub fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    // By the first byte first: megabytes are looked through dozens of times.
    let (first, mut rest) = (needle[0], bytes);
    while let Some(at) = rest.iter().position(|b| *b == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// Everything below a process: the command of `errand run`, and its watchdog.
pub fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let direct: Vec<i32> = text.split_whitespace().filter_map(|p| p.parse().ok()).collect();
    direct.iter().copied().chain(direct.iter().flat_map(|p| children(*p))).collect()
}
