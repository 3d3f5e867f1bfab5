//! The law every backend keeps.

use super::open;
use testkit::ledger_law::{Store, ledger_law};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_keeps_the_law_of_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    ledger_law(|name| async move { Store::of(open(&folder.join(name).join("errand.db"))) }).await;
}
