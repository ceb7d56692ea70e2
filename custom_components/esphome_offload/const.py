"""Names that Home Assistant knows the integration by."""

from typing import Final

DOMAIN: Final = "esphome_offload"

INSTANCE_UNIQUE_ID: Final = "instance"
