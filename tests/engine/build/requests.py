"""Requests for builds."""

from pathlib import Path
from typing import Any

from custom_components.esphome_offload.engine.build.model import BuildRequest


def build_request(
    config_dir: Path, esphome_version: str, configuration: str = "lamp.yaml", **others: Any
) -> BuildRequest:
    """Return a request for a lamp; ``others`` are fields that are to be different."""
    fields = {
        "job_id": "job",
        "attempt_id": "attempt",
        "configuration": configuration,
        "config_dir": config_dir,
        "device_name": "lamp",
        "esphome_version": esphome_version,
        "time_zone": "UTC",
    }
    return BuildRequest(**fields | others)
