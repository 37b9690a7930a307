"""The words of leader election, explained."""
