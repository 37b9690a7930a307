"""Helpers that know nothing of elections: clock, settings, durations, state on disk, sockets."""
