"""The offloader's side of a pairing."""
