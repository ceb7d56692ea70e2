"""``python -m esphome_offload_builder``."""

from .cli import main

main()
