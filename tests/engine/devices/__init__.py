"""Tests, beside the specification they read like."""
