-- Holds that stand. `key` says what one stops; what is issued commits only when none of its own keys is here.
CREATE TABLE hold(id TEXT PRIMARY KEY, key TEXT NOT NULL, body TEXT NOT NULL) STRICT;
CREATE INDEX hold_key ON hold(key);
