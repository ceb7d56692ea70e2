"""The offloader's half on musl: a real Alpine user land."""
