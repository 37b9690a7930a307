"""Choosing: which backends are strong enough for what is at stake, and why.

The tree is data (``tree.yaml``; docs/advise.md has the format). :mod:`~electctl.advise.loader`
reads it strictly, :mod:`~electctl.advise.evaluator` turns answers and the traits of the installed
backends into a verdict, and nothing here names a backend.

What this does not guarantee: that a backend is as good as its traits say, or that the answers are
true.
"""
