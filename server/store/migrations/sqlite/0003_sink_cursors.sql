-- How far each sink has taken the journal: the next position it wants. A row outlives its sink's configuration.
CREATE TABLE sink_cursor(name TEXT PRIMARY KEY, next INTEGER NOT NULL) STRICT;
