//! A real PostgreSQL server for one test: its own data directory, a free port of 127.0.0.1, gone with the value.
//!
//! Set up as an operator would: database `orders`, group roles `orders_reader` and `orders_writer`, and the server's own
//! role `errand` with CREATEROLE and `pg_signal_backend`, no superuser. Passwords are asked for over TCP (SCRAM).

use crate::{poll, ports};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread::JoinHandle,
    time::Duration,
};
use tempfile::TempDir;

const HOST: &str = "127.0.0.1";
const SUPERUSER: &str = "postgres";
const READY: Duration = Duration::from_secs(30);
/// Overrides the folder of `postgres` and `initdb`, to run the tests against another version.
const BIN_VARIABLE: &str = "ERRAND_TEST_POSTGRES_BIN";

/// A running server.
pub struct PostgresFixture {
    dir: TempDir,
    bin: PathBuf,
    port: u16,
    version: i32,
    process: Option<Process>,
    settings: Vec<String>,
}

impl PostgresFixture {
    /// Starts a server and sets it up.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with other settings, `name=value` each: the fixture's own are for speed, not for keeping anything.
    pub async fn start_with(settings: &[&str]) -> Self {
        let settings = settings.iter().map(ToString::to_string).collect();
        let bin = bin();
        let dir = tempfile::Builder::new().prefix("errand-pg-").tempdir().expect("a temporary directory");
        give_to_postgres(dir.path());
        fs::write(dir.path().join("superuser"), "root's own secret").expect("write");
        give_to_postgres(&dir.path().join("superuser"));
        initdb(&bin, dir.path());
        let mut fixture = Self { dir, bin, port: ports::free(), version: 0, process: None, settings };
        fixture.resume().await;
        fixture.set_up().await;
        fixture
    }

    pub fn host(&self) -> &'static str {
        HOST
    }
    pub fn port(&self) -> u16 {
        self.port
    }
    pub fn database(&self) -> &'static str {
        "orders"
    }
    /// `server_version_num`, such as 150018.
    pub fn version(&self) -> i32 {
        self.version
    }
    /// Where the Unix socket lies; nobody is asked for a password there.
    pub fn socket_dir(&self) -> &Path {
        self.dir.path()
    }
    /// A folder that lives as long as the server.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
    /// `psql` and its kin.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
    /// The `url` of a target: the server's own role, no password.
    pub fn manager_url(&self) -> String {
        format!("postgres://errand@{HOST}:{}/orders", self.port)
    }
    /// The `password_file` of a target.
    pub fn manager_password_file(&self) -> PathBuf {
        self.dir.path().join("errand.password")
    }
    /// The store URL of a server that keeps its ledger here: a superuser, its password in the URL.
    pub fn superuser_url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:root%27s%20own%20secret@{HOST}:{}/{database}", self.port)
    }
    /// The URL of the database of this name, in which a server may keep its ledger: the role `errand` owns it, and its
    /// password is in [`Self::manager_password_file`]. It is made when it is not there.
    pub async fn store_url(&self, name: &str) -> String {
        let there: bool = self.ask(&format!("SELECT EXISTS(SELECT 1 FROM pg_database WHERE datname = '{name}')")).await;
        if !there {
            self.sql(&format!("CREATE DATABASE \"{name}\" OWNER errand")).await;
        }
        format!("postgres://errand@{HOST}:{}/{name}", self.port)
    }
    /// A `[[target]]` with the roles `readonly` and `writer`.
    pub fn target_toml(&self, name: &str) -> String {
        format!(
            "[[target]]\nname = \"{name}\"\nkind = \"postgres\"\nurl = \"{}\"\npassword_file = \"{}\"\n\
             [[target.role]]\nname = \"readonly\"\nmember_of = [\"orders_reader\"]\nmax_ttl = \"30m\"\nconnection_limit = 4\n\
             [[target.role]]\nname = \"writer\"\nmember_of = [\"orders_writer\"]\nmax_ttl = \"30m\"\n",
            self.manager_url(),
            self.manager_password_file().display(),
        )
    }

    /// A superuser's connection to `orders`.
    pub async fn admin(&self) -> PgConnection {
        self.admin_on(self.database()).await
    }
    /// A superuser's connection to `database`.
    pub async fn admin_on(&self, database: &str) -> PgConnection {
        self.connect(SUPERUSER, "root's own secret", database).await.expect("the superuser connects")
    }
    /// A connection over TCP, with a password.
    pub async fn connect(&self, user: &str, password: &str, database: &str) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.options(user, database).password(password)).await
    }
    /// Runs statements as the superuser on `orders`.
    pub async fn sql(&self, statements: &str) {
        self.sql_on(self.database(), statements).await;
    }
    /// Runs statements as the superuser on `database`.
    pub async fn sql_on(&self, database: &str, statements: &str) {
        let mut admin = self.admin_on(database).await;
        let ran = sqlx::raw_sql(AssertSqlSafe(statements.to_string())).execute(&mut admin).await;
        ran.unwrap_or_else(|e| panic!("{statements}: {e}"));
    }
    /// One value as the superuser.
    pub async fn ask<T>(&self, question: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        self.ask_on(self.database(), question).await
    }
    /// The same of `database`.
    pub async fn ask_on<T>(&self, database: &str, question: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let mut admin = self.admin_on(database).await;
        let answer = sqlx::query_scalar(AssertSqlSafe(question.to_string())).fetch_one(&mut admin).await;
        answer.unwrap_or_else(|e| panic!("{question}: {e}"))
    }
    /// Everything the server has logged; it logs every statement.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// Writes a file that the server itself may read and nobody else; answers its path.
    pub fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        give_to_postgres(&path);
        path
    }
    /// Puts a line before all others of `pg_hba.conf` and has it read.
    pub async fn admit(&self, line: &str) {
        let path = self.dir.path().join("data/pg_hba.conf");
        let rest = fs::read_to_string(&path).expect("pg_hba.conf is there");
        fs::write(&path, format!("{line}\n{rest}")).expect("write");
        self.sql("SELECT pg_reload_conf()").await;
    }

    /// A standby of this server that streams from it, on a port of its own. It is asynchronous until
    /// [`Self::waits_for_standby`].
    pub async fn standby(&self) -> Self {
        let dir = tempfile::Builder::new().prefix("errand-pg-").tempdir().expect("a temporary directory");
        give_to_postgres(dir.path());
        let password = dir.path().join("errand.password");
        fs::copy(self.manager_password_file(), &password).expect("copy");
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("chmod");
        let mut copy = as_postgres(&self.bin.join("pg_basebackup"));
        copy.arg("-D").arg(dir.path().join("data")).arg("-h").arg(self.socket_dir());
        copy.args(["-p", &self.port.to_string(), "-U", SUPERUSER, "-R", "-X", "stream", "-c", "fast", "--no-sync"]);
        let output = copy.output().expect("setpriv of util-linux runs");
        assert!(output.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&output.stderr));
        let (bin, version, settings) = (self.bin.clone(), self.version, self.settings.clone());
        let mut standby = Self { dir, bin, port: ports::free(), version, process: None, settings };
        standby.resume().await;
        self.streams().await;
        standby
    }
    /// Waits until a standby streams.
    pub async fn streams(&self) {
        let streams = "SELECT EXISTS(SELECT 1 FROM pg_stat_replication WHERE state = 'streaming')";
        poll::until("the standby streams", READY, async || self.ask(streams).await).await;
    }
    /// A commit is answered from now on when a standby has it.
    pub async fn waits_for_standby(&self) {
        let mut admin = self.admin().await;
        for sql in ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
            sqlx::raw_sql(sql).execute(&mut admin).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
        let sync = "SELECT EXISTS(SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync')";
        poll::until("the standby is waited for", READY, async || self.ask(sync).await).await;
    }
    /// Makes a standby the primary, which waits for nobody.
    pub async fn promote(&self) {
        let promoted: bool = self.ask("SELECT pg_promote(true, 30)").await;
        assert!(promoted, "{}", self.log());
        self.sql("ALTER SYSTEM RESET synchronous_standby_names").await;
        self.sql("SELECT pg_reload_conf()").await;
    }

    /// Takes the server down at once, as a crash would.
    pub fn stop(&mut self) {
        drop(self.process.take());
    }
    /// Starts it again on the same port and data.
    pub async fn resume(&mut self) {
        self.process = Some(Process::spawn(self.command()));
        let options = self.options(SUPERUSER, "postgres").host(&self.dir.path().display().to_string());
        let up = poll::holds_within(READY, async || PgConnection::connect_with(&options).await.is_ok()).await;
        assert!(up, "PostgreSQL did not start:\n{}", self.log());
    }

    fn options(&self, user: &str, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host(HOST)
            .port(self.port)
            .username(user)
            .password("")
            .database(database)
            .ssl_mode(PgSslMode::Disable)
    }

    fn command(&self) -> Command {
        let dir = self.dir.path();
        let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).expect("the log opens");
        let mut command = as_postgres(&self.bin.join("postgres"));
        command.arg("-D").arg(dir.join("data")).arg("-k").arg(dir).args(["-h", HOST, "-p", &self.port.to_string()]);
        for setting in [
            "fsync=off",
            "full_page_writes=off",
            "log_statement=all",
            "log_connections=on",
            "max_prepared_transactions=5",
            "shared_buffers=16MB",
            "max_connections=60",
        ] {
            command.args(["-c", setting]);
        }
        // The last one counts.
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
    }

    async fn set_up(&mut self) {
        let password = "it's \"quoted\" \\ and long";
        fs::write(self.manager_password_file(), format!("{password}\n")).expect("write");
        fs::set_permissions(self.manager_password_file(), fs::Permissions::from_mode(0o600)).expect("chmod");
        self.sql_on("postgres", "CREATE DATABASE orders").await;
        self.sql_on(
            "postgres",
            &format!(
                "CREATE ROLE errand LOGIN CREATEROLE PASSWORD E'{}'; GRANT pg_signal_backend TO errand; \
                 CREATE ROLE orders_reader NOLOGIN; CREATE ROLE orders_writer NOLOGIN",
                password.replace('\\', "\\\\").replace('\'', "''")
            ),
        )
        .await;
        self.sql(
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
             CREATE TABLE orders(id int PRIMARY KEY, item text NOT NULL); \
             INSERT INTO orders VALUES (1, 'lamp'), (2, 'chair'); GRANT SELECT ON orders TO orders_reader; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO orders_writer",
        )
        .await;
        self.version = self.ask("SELECT current_setting('server_version_num')::int").await;
        if self.version >= 160_000 {
            self.sql("GRANT orders_reader, orders_writer TO errand WITH ADMIN TRUE, INHERIT FALSE, SET FALSE").await;
        }
    }
}

/// The postmaster, started and waited for by a thread of its own: the kernel ends it when that thread is gone, so that a
/// killed test run leaves no server behind.
struct Process {
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Process {
    fn spawn(mut command: Command) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut child = command.spawn().expect("postgres starts");
            // Both a message and the sender's end mean: stop.
            let _ = stopped.recv();
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
            // Immediate shutdown; the postmaster ends its own children.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT);
            let _ = child.wait();
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The newest installed version, or the one the variable names.
fn bin() -> PathBuf {
    if let Some(path) = std::env::var_os(BIN_VARIABLE) {
        return path.into();
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|v| Some((v.file_name().to_str()?.parse::<u32>().ok()?, v.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").is_file())
        .max();
    match newest {
        Some((_, bin)) => bin,
        None => panic!("no PostgreSQL server is installed: apt-get install postgresql"),
    }
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if nix::unistd::geteuid().is_root() {
        command.args(["--reuid", SUPERUSER, "--regid", SUPERUSER, "--init-groups"]);
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
    command
}

fn give_to_postgres(path: &Path) {
    if nix::unistd::geteuid().is_root() {
        let user = nix::unistd::User::from_name(SUPERUSER).expect("users can be read");
        let user = user.expect("apt-get install postgresql creates the user `postgres`");
        nix::unistd::chown(path, Some(user.uid), Some(user.gid)).expect("chown");
    }
}

fn initdb(bin: &Path, dir: &Path) {
    let mut command = as_postgres(&bin.join("initdb"));
    command.arg("-D").arg(dir.join("data")).args(["-U", SUPERUSER, "-E", "UTF8", "--no-locale", "--no-sync"]);
    command.args(["--auth-local=trust", "--auth-host=scram-sha-256"]).arg("--pwfile").arg(dir.join("superuser"));
    let output = command.output().expect("setpriv of util-linux runs");
    assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
}
