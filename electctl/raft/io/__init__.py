"""The half of the built-in Raft that acts: sockets, clock, store and processes around ``pure``."""
