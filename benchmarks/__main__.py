"""All measurements that take less than a few minutes: ``make bench``."""

from __future__ import annotations

from benchmarks import redis_cost, startup

for measurement in (startup, redis_cost):
    measurement.main()
    print()
