"""The entries of peers."""
