"""A configuration that is an attack, and the machine that builds it."""
