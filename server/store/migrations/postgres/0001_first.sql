-- The first schema. Columns beside `body` are what is asked for; `body` is the noun itself, JSON.
-- Times are milliseconds since the Unix epoch. Text is compared byte by byte, whatever the database's own collation is.

CREATE TABLE meta(
    one integer PRIMARY KEY CHECK(one = 1),
    trust_domain text NOT NULL,
    dev boolean NOT NULL,
    store_id text NOT NULL,
    epoch bigint NOT NULL,
    created_at bigint NOT NULL
);

-- The head of the journal is one row: position = commit order. Who commits locks it first, so that positions have no gaps
-- and nothing can deadlock.
CREATE TABLE journal_head(
    one integer PRIMARY KEY CHECK(one = 1),
    size bigint NOT NULL,
    clock_high_water bigint NOT NULL,
    -- Records before it are no longer kept. Their rows go a little later, their hashes stay in the tiles.
    start bigint NOT NULL
);
INSERT INTO journal_head VALUES(1, 0, 0, 0);

CREATE TABLE journal(
    position bigint PRIMARY KEY,
    time bigint NOT NULL,
    leaf bytea NOT NULL CHECK(length(leaf) = 32),
    body bytea NOT NULL
);
CREATE TABLE journal_key(
    key text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY(key, position)
);

-- Free text and people: the body holds SHA-256(salt || value). Erasing a row here leaves the tree true. Values are UTF-8.
CREATE TABLE journal_private(
    position bigint NOT NULL,
    field text COLLATE "C" NOT NULL,
    salt bytea NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY(position, field)
);
CREATE INDEX journal_private_user ON journal_private(sha256(value), position) WHERE field = 'user';

CREATE TABLE journal_root(size bigint PRIMARY KEY, root bytea NOT NULL CHECK(length(root) = 32));
-- The tree's hashes in tiles of 256 (C2SP tlog-tiles): a proof reads a few of them. The last tile of each level is
-- written again as it grows.
CREATE TABLE journal_tile(
    level integer NOT NULL,
    place bigint NOT NULL,
    hashes bytea NOT NULL CHECK(length(hashes) % 32 = 0 AND length(hashes) BETWEEN 32 AND 8192),
    PRIMARY KEY(level, place)
);
-- Signed checkpoints (C2SP signed notes), each over a root that was written down.
CREATE TABLE journal_note(size bigint PRIMARY KEY, note text NOT NULL, cosigned boolean NOT NULL);
CREATE INDEX journal_note_cosigned ON journal_note(size) WHERE cosigned;

CREATE TABLE entry(
    id text COLLATE "C" PRIMARY KEY,
    revision bigint NOT NULL,
    dedup bytea NOT NULL UNIQUE,
    body text NOT NULL
);
CREATE TABLE node(
    id text COLLATE "C" PRIMARY KEY,
    serial text COLLATE "C" NOT NULL,
    next_serial text COLLATE "C",
    banned boolean NOT NULL,
    body text NOT NULL
);
CREATE TABLE join_token(digest text COLLATE "C" PRIMARY KEY, expires_at bigint NOT NULL, body text NOT NULL);
CREATE TABLE claim(
    kind text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY(kind, key)
);
CREATE INDEX claim_expiry ON claim(expires_at);

CREATE TABLE task(
    id text COLLATE "C" PRIMARY KEY,
    state text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    workload text COLLATE "C" NOT NULL,
    "user" text COLLATE "C",
    node text COLLATE "C" NOT NULL,
    started_at bigint NOT NULL,
    body text NOT NULL
);
CREATE INDEX task_live ON task(id) WHERE state NOT IN ('ended', 'denied');
CREATE INDEX task_workload ON task(workload, id);
CREATE INDEX task_user ON task("user", id) WHERE "user" IS NOT NULL;
CREATE TABLE task_serial(
    task text COLLATE "C" NOT NULL,
    serial text COLLATE "C" NOT NULL,
    not_after bigint NOT NULL,
    PRIMARY KEY(task, serial)
);
CREATE INDEX task_serial_expiry ON task_serial(not_after);

CREATE TABLE lease(
    id text COLLATE "C" PRIMARY KEY,
    task text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    workload text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    issued_at bigint NOT NULL,
    body text NOT NULL,
    UNIQUE(target, name)
);
CREATE INDEX lease_live ON lease(id) WHERE state NOT IN ('revoked', 'expired', 'void');
CREATE INDEX lease_task ON lease(task, id);
CREATE INDEX lease_workload ON lease(workload, id);

-- Task tokens that were revoked before their end; kept until then, when they are dead anyway.
CREATE TABLE revoked_token(jti text COLLATE "C" PRIMARY KEY, expires_at bigint NOT NULL);
CREATE INDEX revoked_token_expiry ON revoked_token(expires_at);

CREATE TABLE authority(
    id text COLLATE "C" PRIMARY KEY,
    use text NOT NULL,
    state text NOT NULL,
    sealed bytea NOT NULL,
    public bytea NOT NULL,
    created_at bigint NOT NULL,
    not_after bigint NOT NULL
);
CREATE TABLE target(name text COLLATE "C" PRIMARY KEY, body text NOT NULL);
CREATE TABLE policy(id text COLLATE "C" PRIMARY KEY, body text NOT NULL);
-- Holds that stand. `key` says what one stops; what is issued commits only when none of its own keys is here.
CREATE TABLE hold(id text COLLATE "C" PRIMARY KEY, key text COLLATE "C" NOT NULL, body text NOT NULL);
CREATE INDEX hold_key ON hold(key);
-- Fences of singleton jobs.
CREATE TABLE job(name text COLLATE "C" PRIMARY KEY, epoch bigint NOT NULL, holder text NOT NULL);
-- There while a store is being copied into this database: until then nobody opens it. `size`: of the journal that is copied.
CREATE TABLE copying(one integer PRIMARY KEY CHECK(one = 1), size bigint NOT NULL);
-- How far each sink has taken the journal: the next position it wants. A row outlives its sink's configuration.
CREATE TABLE sink_cursor(name text COLLATE "C" PRIMARY KEY, next bigint NOT NULL);
