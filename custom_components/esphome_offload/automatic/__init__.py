"""Automatic updates: in a window of time, without an automation."""
