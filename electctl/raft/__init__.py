"""The built-in consensus: Raft, and the lease table that it replicates. Sans-I/O.

What this package does not do: open sockets or files, read clocks, start threads or draw random
numbers, save :mod:`electctl.raft.sqlite`, which is the durable store. docs/raft.md explains the
whole.
"""
