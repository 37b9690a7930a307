"""A leadership from first try to release: timing, renewal, observation, and finding the backend.

What this does not know: what is run while leading; that is ``electctl.campaign``.
"""
