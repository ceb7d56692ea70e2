"""Home Assistant's side of owning devices: their configurations, links and versions."""
