"""What builds keep on disk: where it is, how much of it there may be, how it is removed."""
