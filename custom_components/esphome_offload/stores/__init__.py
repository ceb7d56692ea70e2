"""What is kept in Home Assistant's storage folder."""
