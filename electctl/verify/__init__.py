"""Was there ever more than one leader in this history? Readers, a pure checker, a timeline."""
