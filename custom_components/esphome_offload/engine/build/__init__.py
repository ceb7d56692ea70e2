"""Compiling and flashing on this machine, and the Builder protocol."""
