//! How far the journal is, for all who want to know at one time: one question, however many wait for its answer.
//!
//! An answer is good for those who came before it was asked, and for nobody else: what they were told of by any server was
//! committed by then.

use super::{connect::Pool, error::unreadable};
use server_core::ports::ReadError;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// Who asked, and what the last answer was.
#[derive(Default)]
pub struct Heads {
    came: AtomicU64,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// How many had come when it was asked.
    to: u64,
    size: u64,
}

impl Heads {
    /// The journal's size at some moment of this call.
    pub async fn newest(&self, pool: &Pool) -> Result<u64, ReadError> {
        let mine = self.came.fetch_add(1, Ordering::AcqRel) + 1;
        let mut told = self.told.lock().await;
        if told.to < mine {
            let to = self.came.load(Ordering::Acquire);
            let size: i64 = pool
                .with(|conn| {
                    let asked = sqlx::query_scalar("SELECT size FROM journal_head");
                    Box::pin(async move { asked.fetch_one(conn).await.map_err(unreadable) })
                })
                .await?;
            *told = Told { to, size: u64::try_from(size).unwrap_or(0) };
        }
        Ok(told.size)
    }
}
