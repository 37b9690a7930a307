"""The built-in consensus: Raft, and the lease table that it replicates.

What the deciding part does not do: open sockets or files, read clocks, start threads or draw random
numbers. Around it stand a durable store, a node as a process, and a client's connections.
docs/raft.md explains the whole.
"""
