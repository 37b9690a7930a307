#!/bin/sh
# Two slots, blue and green: one is the primary, and the other is promoted when it falls.
#
# Shows    promotion as the campaign's command: it promotes, waits, and demotes in a trap, which
#          runs before the leadership is given up, also when electctl itself is killed. And a
#          health check for the load balancer that asks the campaign, not a file: health.sh.
# Run      export ELECTCTL_BACKEND=etcd://127.0.0.1:2379      on the host of each slot:
#          ./slot.sh blue      and      ./slot.sh green; then ask ./health.sh blue, ./health.sh green.
#          Put your own promotion and demotion into role.sh.
# Does not protect from
#          a demotion that takes longer than --grace: it is killed half-way. Nor from the killing of
#          everything at once: nothing is demoted then, but the health check fails at that moment.
#          Nor from a machine that is paused and goes on: for an instant its slot takes itself for
#          the primary. What both slots write to has to refuse the older $ELECTCTL_TOKEN
#          (../postgresql), and an election for primaries belongs on consensus: etcd or ZooKeeper.
#          --on-elected/--on-lost would not do here: --on-lost runs when leadership is gone already.
set -eu
cd "$(dirname "$0")"

slot=$1

if [ -z "${ELECTCTL_SOCKET:-}" ]; then
  ./role.sh "$slot" standby # whatever it was when it was last killed
  exec electctl campaign "${ELECTION:-primary}" --keep --id "$slot" ${TTL:+--ttl "$TTL"} \
    -- ./slot.sh "$slot"
fi

# Armed before the promotion, so that one that is interrupted is undone too.
trap './role.sh "$slot" standby; exit 0' TERM
./role.sh "$slot" primary
while :; do
  sleep 1 &
  wait $! # unlike sleep itself, it is interrupted by a signal
done
