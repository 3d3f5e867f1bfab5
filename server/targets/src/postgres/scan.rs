//! The names of ours that are alive in the target.

use super::{
    connect::{Connector, within},
    quote::like,
};
use server_core::ports::RevokeError;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);
/// Names in one page.
const PAGE: i64 = 1000;

/// Roles whose name begins with `prefix`, in byte order, after `after`.
pub(super) async fn scan(
    connector: &Connector,
    prefix: &str,
    after: Option<String>,
) -> Result<Vec<String>, RevokeError> {
    let names = within(LIMIT, async {
        let mut session = connector.session("SELECT 1").await?;
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT rolname::text FROM pg_roles WHERE rolname::text LIKE $1 AND rolname::text COLLATE \"C\" > $2 \
             ORDER BY rolname::text COLLATE \"C\" LIMIT $3",
        )
        .bind(format!("{}%", like(prefix)))
        .bind(after.unwrap_or_default())
        .bind(PAGE)
        .fetch_all(&mut session.conn)
        .await?;
        session.keep();
        Ok(names)
    });
    Ok(names.await?)
}
