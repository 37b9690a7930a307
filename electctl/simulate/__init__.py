"""A simulated world from a seed: the real core, lease table, store contract and client in it.

What it does not simulate: the wire format, sockets, processes and the SQLite file; those have
tests of their own. A run that finds nothing proves nothing; one that finds something can be
repeated from its number.
"""
