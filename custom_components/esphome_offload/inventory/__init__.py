"""Home Assistant's side of owning devices: which there are, where, and which versions they may get."""
