"""Home Assistant's side of being a builder."""
