//! What `psql` alone reaches with the statements of one errand: taken from the database's own log, repeated under other
//! names.

use crate::stopwatch::now;
use anyhow::{Context, Result, ensure};
use std::{fmt::Write as _, fs, path::PathBuf, process::Stdio};
use testkit::postgres::PostgresFixture;
use tokio::process::Command;

/// The statements of one errand, in order.
pub struct Script {
    statements: Vec<String>,
    /// The name of the errand's user, wherever it stands.
    user: String,
}

impl Script {
    /// Reads them out of what the server logged meanwhile.
    pub fn of_one_errand(log: &str) -> Result<Self> {
        let mut statements: Vec<String> = Vec::new();
        for line in log.lines() {
            if let Some(continued) = line.strip_prefix('\t') {
                // Of the statement before, which had a line break.
                if let Some(last) = statements.last_mut() {
                    last.push('\n');
                    last.push_str(continued);
                }
            } else if let Some((_, statement)) = line.split_once("LOG:  statement: ") {
                statements.push(statement.into());
            } else if let Some((_, rest)) = line.split_once("LOG:  execute ") {
                statements.push(rest.split_once(": ").context("a statement after its name")?.1.into());
            } else if let Some((_, values)) = line.split_once("DETAIL:  parameters: ") {
                let last = statements.last_mut().context("parameters without a statement")?;
                *last = bound(last, values);
            }
        }
        // Not ours: the look whether the user is gone.
        statements.retain(|s| !s.contains("rolname ~ "));
        let user = statements.iter().find_map(|s| s.strip_prefix("CREATE ROLE ")?.split_whitespace().next());
        let user = user.context("an errand creates a user")?.trim_matches('"').to_string();
        ensure!(statements.iter().any(|s| s.starts_with("DROP ROLE")), "an errand drops its user");
        Ok(Self { statements, user })
    }

    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// Errands a second of so many `psql` at once.
    pub async fn per_second(&self, postgres: &PostgresFixture, total: usize, processes: usize) -> Result<f64> {
        let each = total.div_ceil(processes);
        let scripts: Vec<PathBuf> = (0..processes).map(|p| self.write(postgres, p, each)).collect::<Result<_>>()?;
        let start = now();
        let mut running = Vec::new();
        for script in &scripts {
            running.push(psql(postgres, script)?);
        }
        for process in running {
            let output = process.wait_with_output().await?;
            ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok((each * processes) as f64 / (now() - start).as_secs_f64())
    }

    fn write(&self, postgres: &PostgresFixture, process: usize, each: usize) -> Result<PathBuf> {
        let mut text = String::new();
        for i in 0..each {
            let name = format!("errand_psql{process}_{i:0width$}", width = self.user.len().saturating_sub(13));
            for statement in &self.statements {
                let _ = writeln!(text, "{};", statement.replace(&self.user, &name));
            }
        }
        let path = postgres.dir().join(format!("errands-{process}.sql"));
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// A statement with the values it was executed with: `$1 = 'a', $2 = NULL`.
fn bound(statement: &str, mut values: &str) -> String {
    let mut literals = Vec::new();
    while let Some((_, rest)) = values.split_once(" = ") {
        let value = literal(rest);
        literals.push(value);
        values = &rest[value.len()..];
    }
    let mut out = statement.to_string();
    // The highest first: `$1` is the beginning of `$10`.
    for (i, value) in literals.iter().enumerate().rev() {
        out = out.replace(&format!("${}", i + 1), value);
    }
    out
}

/// The first literal of `text`, quotes and all.
fn literal(text: &str) -> &str {
    let Some(inner) = text.strip_prefix('\'') else { return text.split(',').next().unwrap_or(text) };
    let mut end = 0;
    while let Some(quote) = inner[end..].find('\'') {
        end += quote + 1;
        match inner[end..].starts_with('\'') {
            true => end += 1,
            false => return &text[..=end],
        }
    }
    text
}

fn psql(postgres: &PostgresFixture, script: &PathBuf) -> Result<tokio::process::Child> {
    let password = fs::read_to_string(postgres.manager_password_file())?;
    let mut command = Command::new(postgres.tool("psql"));
    command.args([
        "-X",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-h",
        postgres.host(),
        "-U",
        "errand",
        "-d",
        postgres.database(),
    ]);
    command.arg("-p").arg(postgres.port().to_string()).arg("-f").arg(script);
    command.env("PGPASSWORD", password.trim_end_matches('\n'));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command.spawn()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01 00:00:00.000 UTC [7] LOG:  statement: BEGIN\n\
        2026-01-01 00:00:00.001 UTC [7] LOG:  execute sqlx_s_1: SELECT 1 FROM r WHERE n = $1 AND o = $2\n\
        2026-01-01 00:00:00.001 UTC [7] DETAIL:  parameters: $1 = 'it''s, $2 = x', $2 = NULL\n\
        2026-01-01 00:00:00.002 UTC [7] LOG:  statement: CREATE ROLE \"errand_abcde_0123456789abcdef\" LOGIN\n\
        \tVALID UNTIL 'x'\n\
        2026-01-01 00:00:00.003 UTC [7] LOG:  connection received: host=127.0.0.1\n\
        2026-01-01 00:00:00.004 UTC [7] LOG:  statement: DROP ROLE IF EXISTS \"errand_abcde_0123456789abcdef\"\n";

    #[test]
    fn statements_are_read_from_the_log_with_their_values() {
        let script = Script::of_one_errand(LOG).unwrap();
        assert_eq!(script.user, "errand_abcde_0123456789abcdef");
        assert_eq!(script.statements[1], "SELECT 1 FROM r WHERE n = 'it''s, $2 = x' AND o = NULL");
        assert!(script.statements[2].ends_with("LOGIN\nVALID UNTIL 'x'"));
        assert_eq!(script.len(), 4);
    }

    #[test]
    fn a_log_without_an_errand_is_refused() {
        assert!(Script::of_one_errand(LOG.split_at(200).0).is_err());
    }
}
