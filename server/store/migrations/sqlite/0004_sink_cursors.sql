-- The journal's ways out.

-- How far each sink has taken the journal: the next position it wants. A row outlives its sink's configuration.
CREATE TABLE sink_cursor(name TEXT PRIMARY KEY, next INTEGER NOT NULL) STRICT;

-- Records before `below` have no contents any more, only leaves; before `swept` they are gone from the file, too.
CREATE TABLE journal_pruned(
    one INTEGER PRIMARY KEY CHECK(one = 1),
    below INTEGER NOT NULL,
    swept INTEGER NOT NULL
) STRICT;
INSERT INTO journal_pruned VALUES(1, 0, 0);
