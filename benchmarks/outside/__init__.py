"""Exclusion and fail-over measured from outside: two campaigns, one fault, one file.

Each round starts two real ``electctl campaign`` processes on one election, with a command that
appends a line every 5 ms, does something bad to the first, and reads the file afterwards. Nothing
that electctl says of itself is used but its exit code. ``--tool etcdctl`` puts ``etcdctl lock`` in
its place, as a yardstick; it does not stop its command, and rounds that ask for that are left out.

What a round measures, in milliseconds:

- ``gap``: from the first command's last line to the second's first (negative: two leaders);
- ``before end``: from the first command's last line to the end of its lease in the store: what the
  store last said of it or, where it tells no end (ZooKeeper), the last moment at which it was
  asked and still had the first for its leader. So the true margin is at least this. A grant that
  was given back ends then, so after a crash with a release this is about 0;
- ``takeover``: from the fault to the second command's first line.

    python -m benchmarks.outside --scheme redis --rounds 20
    python -m benchmarks.outside --scheme redis --faults oom-electctl cpu-quota --rounds 3
    python -m benchmarks.outside --scheme etcd --tool etcdctl --rounds 1
    python -m benchmarks.outside.crash                 fail-over from a crash, TTL 10 s

Some faults are done to the store itself, or to the whole host; these rounds are played alone.
``cut-off`` is of a member that follows, ``cut-off-leader`` of the one that leads the store;
ZooKeeper's others then take 3 to 30 s to elect another, and once took minutes on a busy machine.
A fault that cannot be set up here (no right to make a cgroup) is ``not_injected``, with the reason;
the exit code is then 3 at best.
"""
