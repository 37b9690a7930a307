#!/bin/sh
# The job of the crontab beside it. Run on one host a night, it knows nothing of elections; the
# token only marks which leadership a line is from.
set -eu
printf '%s host %s token %s\n' "$(date -u +%FT%TZ)" "$(uname -n)" "$ELECTCTL_TOKEN" >>reports.log
