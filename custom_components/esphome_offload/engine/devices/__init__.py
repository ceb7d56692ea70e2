"""ESPHome configurations, and the devices that run them."""
