-- The first schema. Columns beside `body` are what is asked for; `body` is the noun itself, JSON.
-- Times are milliseconds since the Unix epoch.

-- `in_use` is 1 from open to clean close: with it set and the write-ahead log gone, commits were lost.
CREATE TABLE meta(
    one INTEGER PRIMARY KEY CHECK(one = 1),
    trust_domain TEXT NOT NULL,
    dev INTEGER NOT NULL,
    store_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    in_use INTEGER NOT NULL
) STRICT;

-- The head of the journal is one row: position = commit order.
CREATE TABLE journal_head(
    one INTEGER PRIMARY KEY CHECK(one = 1),
    size INTEGER NOT NULL,
    clock_high_water INTEGER NOT NULL
) STRICT;
INSERT INTO journal_head VALUES(1, 0, 0);

CREATE TABLE journal(
    position INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    leaf BLOB NOT NULL CHECK(length(leaf) = 32),
    body BLOB NOT NULL
) STRICT;
CREATE TABLE journal_key(
    key TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY(key, position)
) STRICT, WITHOUT ROWID;

-- Free text and people: the body holds SHA-256(salt || value). Erasing a row here leaves the tree true.
CREATE TABLE journal_private(
    position INTEGER NOT NULL,
    field TEXT NOT NULL,
    salt BLOB NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY(position, field)
) STRICT, WITHOUT ROWID;
CREATE INDEX journal_private_user ON journal_private(value, position) WHERE field = 'user';

-- Roots written down, and the frontier that goes with the newest.
CREATE TABLE journal_root(size INTEGER PRIMARY KEY, root BLOB NOT NULL CHECK(length(root) = 32)) STRICT;
CREATE TABLE journal_frontier(
    one INTEGER PRIMARY KEY CHECK(one = 1),
    size INTEGER NOT NULL,
    peaks BLOB NOT NULL
) STRICT;

CREATE TABLE entry(
    id TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    dedup BLOB NOT NULL UNIQUE,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE node(
    id TEXT PRIMARY KEY,
    serial TEXT NOT NULL,
    next_serial TEXT,
    banned INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE join_token(digest TEXT PRIMARY KEY, expires_at INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE claim(
    kind TEXT NOT NULL,
    key BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY(kind, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX claim_expiry ON claim(expires_at);

CREATE TABLE task(
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    workload TEXT NOT NULL,
    user TEXT,
    node TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX task_live ON task(id) WHERE state NOT IN ('ended', 'denied');
CREATE INDEX task_workload ON task(workload, id);
CREATE INDEX task_user ON task(user, id) WHERE user IS NOT NULL;
CREATE TABLE task_serial(
    task TEXT NOT NULL,
    serial TEXT NOT NULL,
    not_after INTEGER NOT NULL,
    PRIMARY KEY(task, serial)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_serial_expiry ON task_serial(not_after);

CREATE TABLE lease(
    id TEXT PRIMARY KEY,
    task TEXT NOT NULL,
    target TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    workload TEXT NOT NULL,
    state TEXT NOT NULL,
    issued_at INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE(target, name)
) STRICT;
CREATE INDEX lease_live ON lease(id) WHERE state NOT IN ('revoked', 'expired', 'void');
CREATE INDEX lease_task ON lease(task, id);
CREATE INDEX lease_workload ON lease(workload, id);

CREATE TABLE authority(
    id TEXT PRIMARY KEY,
    use TEXT NOT NULL,
    state TEXT NOT NULL,
    sealed BLOB NOT NULL,
    public BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    not_after INTEGER NOT NULL
) STRICT;
CREATE TABLE target(name TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE policy(id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;

-- Fences of singleton jobs.
CREATE TABLE job(name TEXT PRIMARY KEY, epoch INTEGER NOT NULL, holder TEXT NOT NULL) STRICT;
