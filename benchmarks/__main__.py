"""All measurements that take less than a few minutes: ``make bench``.

``python -m benchmarks.handover`` and ``benchmarks.outside`` take longer: they wait for leases to
run out.
"""

from __future__ import annotations

from benchmarks import cost, crowd, startup, verify

for measurement in (startup, cost, crowd, verify):
    measurement.main()
    print()
