"""The program that asks ESPHome about configurations, run by a toolchain's Python."""
