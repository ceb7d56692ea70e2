"""Requests for jobs: of several devices in one call, within limits, and of one job once more."""
