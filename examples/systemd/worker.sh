#!/bin/sh
# The worker of electctl-worker.service: works until it is told to stop, and then tidies up. It has
# --grace (5 s) for that, then it is killed.
set -eu
trap 'echo "worker: told to stop, token $ELECTCTL_TOKEN"; exit 0' TERM
echo "worker: begins, token $ELECTCTL_TOKEN"
while :; do
  sleep 0.2
done
