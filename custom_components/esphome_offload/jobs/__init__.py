"""Home Assistant's side of jobs: events, the forms in which they are told, what is kept by target."""
