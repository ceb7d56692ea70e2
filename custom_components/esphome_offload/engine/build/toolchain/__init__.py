"""One environment per ESPHome version, and how ESPHome is called in it."""
