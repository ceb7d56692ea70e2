"""The cache of builds: its paths, its limits, and how it is removed."""
