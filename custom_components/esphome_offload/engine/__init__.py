"""The engine, which does not depend on Home Assistant: jobs, devices, builds, and the link between two instances."""
