-- Which records have which key, behind the commits: the first eight bytes of the key's SHA-256. `journal_indexed` says from
-- where on records are not in it yet. `journal_key` is what servers of the schema before still write while they go on; it
-- goes when none of them does any more.
CREATE TABLE journal_found(key bigint NOT NULL, position bigint NOT NULL, PRIMARY KEY(key, position));
CREATE TABLE journal_indexed(one integer PRIMARY KEY CHECK(one = 1), next bigint NOT NULL);
-- Nothing is committed between the keys and the size up to which they are complete.
SELECT size FROM journal_head FOR UPDATE;
INSERT INTO journal_found
    SELECT DISTINCT ('x' || encode(substr(sha256(convert_to(key, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint, position
    FROM journal_key;
INSERT INTO journal_indexed SELECT 1, size FROM journal_head;
