"""What a backend implements and declares, and how it is addressed.

What this does not know: any backend, how a leadership is kept, or the command line.
"""
