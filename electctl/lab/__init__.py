"""Real servers on loopback, and a proxy that breaks the links to them."""
