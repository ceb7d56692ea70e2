"""Toolchains, one environment per ESPHome version, and the calls of ESPHome in them."""
