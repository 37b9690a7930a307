"""What the installed backends promise, side by side."""
