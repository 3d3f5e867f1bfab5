-- The tree's hashes in tiles of 256 (C2SP tlog-tiles): a proof reads a few of them. The last tile of each level is
-- written again as it grows; what the frontier told stands there, too.
CREATE TABLE journal_tile(
    level INTEGER NOT NULL,
    place INTEGER NOT NULL,
    hashes BLOB NOT NULL CHECK(length(hashes) % 32 = 0 AND length(hashes) BETWEEN 32 AND 8192),
    PRIMARY KEY(level, place)
) STRICT;
DROP TABLE journal_frontier;

-- Signed checkpoints (C2SP signed notes), each over a root that was written down.
CREATE TABLE journal_note(
    size INTEGER PRIMARY KEY,
    note TEXT NOT NULL,
    cosigned INTEGER NOT NULL
) STRICT;
CREATE INDEX journal_note_cosigned ON journal_note(size) WHERE cosigned = 1;
