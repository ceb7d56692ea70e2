"""The standalone builder of ESPHome Offload: a builder on a machine without Home Assistant."""

__version__ = "0.1.0"
