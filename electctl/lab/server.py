"""One real server process on loopback: started, watched, killed, paused."""
