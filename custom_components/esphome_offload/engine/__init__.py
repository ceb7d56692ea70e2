"""All that knows nothing of Home Assistant: jobs, devices, builds, and the link between two instances."""
