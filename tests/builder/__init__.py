"""The standalone builder."""
