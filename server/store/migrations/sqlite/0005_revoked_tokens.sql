-- Task tokens that were revoked before their end; kept until then, when they are dead anyway.
CREATE TABLE revoked_token(jti TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX revoked_token_expiry ON revoked_token(expires_at);
