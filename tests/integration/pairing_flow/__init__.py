"""Pairing with a builder."""
