"""The half of the built-in Raft that decides: no sockets, files, threads, clocks or randomness."""
