#!/bin/sh
# A worker that goes through a list once, over all its leaders: each resumes where the last stopped.
#
# Shows    electctl checkpoint set/get: how far we are stands in the store, and only the leader in
#          the store can write it; the script campaigns for itself when nobody leads for it yet.
# Run      export ELECTCTL_BACKEND=redis://127.0.0.1:6379/0    (or: eval "$(electctl lab env)")
#          ./worker.sh orders.txt done.log      in three terminals; kill -9 the one that works
# Does not protect from
#          doing one line twice: a leader that dies between the work and the checkpoint has done a
#          line that is not marked. So it is "at least once", and twice only for that one line;
#          nothing is skipped. Work that is known by its number (here: the line's) can be made to
#          count once where it is done. A stale leader's checkpoint is refused (exit 79), but its
#          last line of work may come late, after the next leader has begun: ../postgresql.
set -eu

orders=$1
done_log=$2

if [ -z "${ELECTCTL_SOCKET:-}" ]; then
  exec electctl campaign "${ELECTION:-orders}" ${TTL:+--ttl "$TTL"} -- sh "$0" "$orders" "$done_log"
fi

# 1 is "nothing was ever written"; anything else is no reason to begin at the beginning.
last=$(electctl checkpoint get 2>/dev/null) || [ $? = 1 ] || exit 3
last=${last:-0}
echo "$ELECTCTL_ID resumes after $last, token $ELECTCTL_TOKEN"

total=$(grep -c '' "$orders")
while [ "$last" -lt "$total" ]; do
  last=$((last + 1))
  order=$(sed -n "${last}p" "$orders")
  echo "$last $order" >>"$done_log" # the work
  electctl checkpoint set "$last" # with set -e, a refusal ends us
done
echo "all $total are done"
