"""The builder as an app of Home Assistant OS: Supervisor, and the page inside Home Assistant."""
