-- Which database system the store lies in (pg_control_system): one that was dumped and put in somewhere else is a copy,
-- and of two copies one must not run. NULL until the next server opens it.
ALTER TABLE meta ADD COLUMN cluster bigint;
