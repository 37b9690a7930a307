#!/bin/sh
# Gives a slot its role: role.sh SLOT primary|standby. This one writes files; yours would switch a
# database, open a port, mount a volume. It must be able to run twice.
set -eu
slot=$1
role=$2

mkdir -p state
# For health.sh: how to ask the campaign that made it the primary.
if [ "$role" = primary ]; then
  ln -sfn "$ELECTCTL_SOCKET" "state/$slot.socket"
else
  rm -f "state/$slot.socket"
fi
echo "$slot $role ${ELECTCTL_TOKEN:-}" >>state/history
