//! A role's credential as the programs that speak to PostgreSQL look for it: libpq's variables and files, and
//! `DATABASE_URL`. The password is in one file only.

use super::config::Config;
use proto_types::{Placement, Secret};
use serde_json::json;

/// The kind's own fields of the answer: JSON text of one object, the password among them.
pub(super) fn fields(config: &Config, user: &str, password: &Secret<String>) -> Secret<String> {
    let a = &config.address;
    let fields = json!({
        "host": a.host, "port": a.port, "database": a.database, "user": user, "password": password.expose(),
        "sslmode": config.tls.name,
    });
    Secret::new(fields.to_string())
}

/// Where a client puts it. `ca` is the PEM of a private authority, which workloads need a copy of.
pub(super) fn placement(
    config: &Config,
    role: &str,
    user: &str,
    password: &Secret<String>,
    ca: Option<String>,
) -> Vec<Placement> {
    let a = &config.address;
    let env = |name: &str, value: String| Placement::Env { name: name.into(), value };
    let mode = (config.tls.name != "prefer").then_some(config.tls.name);
    let mut out = vec![
        env("PGHOST", a.host.clone()),
        env("PGPORT", a.port.to_string()),
        env("PGDATABASE", a.database.clone()),
        env("PGUSER", user.into()),
        env("PGPASSFILE", "${DIR}/pgpass".into()),
        env("PGSERVICEFILE", "${DIR}/pg_service.conf".into()),
        env("DATABASE_URL", a.url_for(user, mode)),
    ];
    if let Some(mode) = mode {
        out.push(env("PGSSLMODE", mode.into()));
    }
    let root = ca.map(|content| {
        let path = format!("{}-ca.pem", config.target);
        out.push(env("PGSSLROOTCERT", format!("${{DIR}}/{path}")));
        out.push(Placement::File { path: path.clone(), content, append: false });
        path
    });
    out.push(Placement::File { path: "pgpass".into(), content: pgpass(config, user, password), append: true });
    let mut services = String::new();
    // By target, as several grants of one kind are told apart; and by role, for two roles of one target.
    for name in [config.target.clone(), format!("{}/{role}", config.target)] {
        services.push_str(&service(config, &name, user, mode, root.as_deref()));
    }
    out.push(Placement::File { path: "pg_service.conf".into(), content: services, append: true });
    out
}

fn pgpass(config: &Config, user: &str, password: &Secret<String>) -> String {
    let a = &config.address;
    let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
    let line = |host: &str| {
        let (database, user, password) = (escape(&a.database), escape(user), escape(password.expose()));
        format!("{}:{}:{database}:{user}:{password}\n", escape(host), a.port)
    };
    // libpq looks its default socket directory up as `localhost`, any other by its path.
    if a.host.starts_with('/') { line(&a.host) + &line("localhost") } else { line(&a.host) }
}

fn service(config: &Config, name: &str, user: &str, mode: Option<&str>, root: Option<&str>) -> String {
    let a = &config.address;
    let mut text = format!(
        "[{name}]\nhost={}\nport={}\ndbname={}\nuser={user}\npassfile=${{DIR}}/pgpass\n",
        a.host, a.port, a.database
    );
    if let Some(mode) = mode {
        text.push_str(&format!("sslmode={mode}\n"));
    }
    if let Some(root) = root {
        text.push_str(&format!("sslrootcert=${{DIR}}/{root}\n"));
    }
    text + "\n"
}
