"""The offloader's end of a pairing: the link, bundles, and the builder at its other end."""
