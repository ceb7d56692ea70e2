"""Real processes for demo, benchmark and end-to-end tests; nothing in here is simulated."""
