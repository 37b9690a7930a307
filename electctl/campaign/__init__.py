"""Runs a command only while leading."""
