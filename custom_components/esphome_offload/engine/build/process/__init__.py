"""Running commands: environment, output and containment."""
