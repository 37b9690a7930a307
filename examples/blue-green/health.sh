#!/bin/sh
# For the load balancer: exit 0 if this slot is the primary now. It asks the campaign, so it fails
# when that is gone, and also when it is paused (electctl check ends with 1 or 3).
set -eu
cd "$(dirname "$0")"

[ -L "state/$1.socket" ] || exit 1
ELECTCTL_SOCKET=$(readlink "state/$1.socket")
export ELECTCTL_SOCKET
exec electctl check -q
