#!/bin/sh
# A write to PostgreSQL that a stale leader cannot make, however late it comes.
#
# Shows    a fencing token at work. The row in "fence" holds the highest token that has written. A
#          transaction first raises it to its own, which fails if it is higher already; the row
#          stays locked until COMMIT, so nobody with another token is in between.
# Run      export ELECTCTL_BACKEND=etcd://127.0.0.1:2379      # see below why not Redis
#          export PGHOST=127.0.0.1 PGDATABASE=bank PGUSER=me  # as psql wants it, see its manual
#          psql -f fence.sql
#          electctl campaign bank -- ./write.sh 42
#          Exit code 0: written; 79: a newer leader has written, and this write was refused.
# Does not protect from
#          writes that do not come this way: no other may have the right to change "account". Nor
#          from tokens that do not grow: those of redis:// can repeat after a fail-over or a
#          FLUSHALL, so use etcd:// or zk:// here, and one election for one row of "fence". A token
#          does not say which of two writes under one leadership is the later one.
set -eu

amount=$1
: "${ELECTCTL_TOKEN:?run it under electctl campaign, on a scheme that has tokens}"

# ":'x'" is psql's quoting of a variable; what is not a number is refused by the casts.
refused=$(psql -X -q -A -t -v ON_ERROR_STOP=1 \
  -v token="$ELECTCTL_TOKEN" -v resource="$ELECTCTL_ELECTION" -v amount="$amount" <<'SQL'
BEGIN;

INSERT INTO fence VALUES (:'resource', :'token'::bigint)
  ON CONFLICT (resource) DO UPDATE SET token = excluded.token WHERE fence.token <= excluded.token;
SELECT token <> :'token'::bigint AS stale, token AS newest FROM fence WHERE resource = :'resource' \gset
\if :stale
  ROLLBACK;
  \echo :newest
  \quit
\endif

UPDATE account SET balance = balance + :'amount'::bigint, by_token = :'token'::bigint
  WHERE name = 'main';

COMMIT;
SQL
)

if [ -n "$refused" ]; then
  echo "refused: token $ELECTCTL_TOKEN is stale, $refused has written" >&2
  exit 79
fi
