"""Names that Home Assistant knows the integration and its page by."""

from typing import Final

DOMAIN: Final = "esphome_offload"

INSTANCE_UNIQUE_ID: Final = "instance"

PAGE_URL: Final = "esphome-offload"


def job_url(job_id: str) -> str:
    """Return where the page shows a job, for links."""
    return f"/{PAGE_URL}/job/{job_id}"
