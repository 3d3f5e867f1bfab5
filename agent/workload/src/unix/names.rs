//! Names of users and groups, asked of the system's name service off the async threads and kept for a minute.
//!
//! A name service that fails gives no name, and nothing is kept of that.

use agent_core::cache::{Expiring, Lookup};
use nix::unistd::{Gid, Group, Uid, User};
use proto_types::Clock;
use std::{
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

const KEPT_FOR: Duration = Duration::from_secs(60);
const KEPT: usize = 8192;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    User(u32),
    Group(u32),
}

pub(super) struct Names {
    clock: Arc<dyn Clock>,
    known: Mutex<Expiring<Key, Option<Arc<str>>>>,
}

impl Names {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, known: Mutex::new(Expiring::new(KEPT)) }
    }

    pub async fn user(&self, uid: u32) -> Option<Arc<str>> {
        self.name(Key::User(uid)).await
    }

    pub async fn group(&self, gid: u32) -> Option<Arc<str>> {
        self.name(Key::Group(gid)).await
    }

    async fn name(&self, key: Key) -> Option<Arc<str>> {
        let now = self.clock.now();
        if let Lookup::Fresh(name) | Lookup::Aging(name) = self.known().get(&key, now) {
            return name;
        }
        let found = tokio::task::spawn_blocking(move || look_up(key)).await;
        let name = match found {
            Ok(Ok(name)) => name,
            Ok(Err(errno)) => {
                tracing::warn!(%errno, "the name service failed; selectors by name are left out");
                return None;
            }
            Err(_) => return None,
        };
        self.known().insert(key, name.clone(), now, now.plus(KEPT_FOR), 0.5);
        name
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Expiring<Key, Option<Arc<str>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look_up(key: Key) -> nix::Result<Option<Arc<str>>> {
    Ok(match key {
        Key::User(uid) => User::from_uid(Uid::from_raw(uid))?.map(|u| u.name.into()),
        Key::Group(gid) => Group::from_gid(Gid::from_raw(gid))?.map(|g| g.name.into()),
    })
}
