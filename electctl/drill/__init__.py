"""Breaks something under real campaigns, and says what came of it (docs/drills.md)."""
