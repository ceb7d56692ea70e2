"""Who compiles: the Builder protocol and what implements it."""
