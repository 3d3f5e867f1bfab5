#!/bin/sh
# Plays an AI agent: it was asked to summarise the orders, and it believes what it reads.
# It has what any command under `errand run` has: psql finds its credential by itself.
say() { printf 'agent: %s\n' "$*"; }

say "I am $(psql -XAtc 'SELECT current_user'), and that is all I was given."
say "the developer's variables reach me as PGPASSWORD=${PGPASSWORD-(unset)}"
say "$(psql -XAtc "SELECT count(*) || ' orders, ' || sum(cents) / 100 || ' in all' FROM orders")"
say "one of them says: $(psql -XAtc "SELECT note FROM orders WHERE note <> ''")"
say "that reads like an order, so I obey:"
say "  DROP TABLE orders  ->  $(psql -XAtqc 'DROP TABLE orders' 2>&1)"
say "  orders-db/owner    ->  $(errand exchange orders-db/owner 2>&1 | head -n 1)"
