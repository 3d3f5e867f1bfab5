//! Scripts for people: the target's own side of the arrangement, and the way to end everything of ours without us.
//!
//! Both are for `psql`, which every PostgreSQL administrator has: `\gexec` runs what the target itself quoted.

use super::{
    ORPHANS,
    address::Address,
    quote::{ident, like, literal},
};
use proto_types::{CredentialName, TargetDoc};
use serde_json::Value;
use std::collections::BTreeSet;

/// What an administrator runs once, as a superuser. `None` when the document names no server.
pub(super) fn setup(doc: &TargetDoc) -> Option<String> {
    let address = Address::parse(doc.body.get("url")?.as_str()?).ok()?;
    let user = ident(&address.user);
    let groups: BTreeSet<&str> = doc
        .body
        .get("role")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|role| role.get("member_of")?.as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut sql = format!(
        "-- Once, as a superuser: psql -d {}\n\
         CREATE ROLE {user} LOGIN CREATEROLE;\n\
         \\password {user}\n\
         GRANT pg_signal_backend TO {user};\n\
         GRANT CONNECT ON DATABASE {} TO {user};\n\
         -- Owns what ended tasks leave behind; may do nothing.\n\
         CREATE ROLE {ORPHANS} NOLOGIN;\n\
         GRANT {ORPHANS} TO {user};\n",
        address.database.escape_debug(),
        ident(&address.database),
    );
    sql.push_str("-- The roles that credentials become members of.\n");
    for group in &groups {
        let exists = format!("SELECT FROM pg_roles WHERE rolname = {}", literal(group));
        let create = literal(&format!("CREATE ROLE {} NOLOGIN", ident(group)));
        sql.push_str(&format!("SELECT {create} WHERE NOT EXISTS ({exists}) \\gexec\n"));
    }
    sql.push_str("-- From PostgreSQL 16 on the right to grant a role is given for each.\n");
    sql.push_str("SELECT current_setting('server_version_num')::int >= 160000 AS errand_admin \\gset\n");
    sql.push_str("\\if :errand_admin\n");
    for group in &groups {
        sql.push_str(&format!("GRANT {} TO {user} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;\n", ident(group)));
    }
    sql.push_str("\\endif\n");
    Some(sql)
}

/// Ends every credential of one store: logins, sessions, objects, roles, in the order the server itself uses.
pub(super) fn by_hand(store_id: &str) -> String {
    let pattern = literal(&format!("{}%", like(&CredentialName::prefix(store_id))));
    let ours = format!("FROM pg_roles WHERE rolname LIKE {pattern}");
    format!(
        "-- With psql, as a superuser or as the server's own user. Stop the server first.\n\
         SET search_path = pg_catalog;\n\
         -- 1. Nobody logs in any more.\n\
         SELECT format('ALTER ROLE %I NOLOGIN', rolname) {ours} \\gexec\n\
         -- 2. Sessions end. Repeat until this shows no row.\n\
         SELECT pid, usename, pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE {pattern};\n\
         -- 3. In each database that this lists (\\connect it, then from here to 4):\n\
         SELECT DISTINCT d.datname FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid \
         JOIN pg_database d ON d.oid = s.dbid\n  WHERE s.refclassid = 'pg_authid'::regclass AND r.rolname LIKE {pattern};\n\
         SET search_path = pg_catalog;\n\
         SELECT 'CREATE ROLE {ORPHANS} NOLOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ORPHANS}') \\gexec\n\
         SELECT format('GRANT %I TO CURRENT_USER', rolname) {ours} AND NOT pg_has_role(current_user, oid, 'USAGE') \\gexec\n\
         SELECT format('DROP ROUTINE %s', p.oid::regprocedure) FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner\n  \
         WHERE r.rolname LIKE {pattern} \\gexec\n\
         SELECT format('REASSIGN OWNED BY %I TO {ORPHANS}', rolname) {ours} \\gexec\n\
         SELECT format('DROP OWNED BY %I', rolname) {ours} \\gexec\n\
         -- 4. The roles themselves. What cannot be dropped says in which database it still owns something: back to 3.\n\
         SELECT format('DROP ROLE %I', rolname) {ours} \\gexec\n\
         -- 5. Sessions that outlived their role.\n\
         SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity\n  \
         WHERE usesysid IS NOT NULL AND usesysid NOT IN (SELECT oid FROM pg_roles);\n"
    )
}
