"""What happened in elections: as events, as one stream of many elections, as a file."""
