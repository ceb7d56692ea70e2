"""What can be flashed: ESPHome configurations and the devices that run them."""
