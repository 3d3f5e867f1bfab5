-- Records before `start` are no longer kept. Their rows go a little later, their hashes stay in the tiles.
ALTER TABLE journal_head ADD COLUMN start INTEGER NOT NULL DEFAULT 0;
