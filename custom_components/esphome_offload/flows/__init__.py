"""The steps of the config and options flows."""
