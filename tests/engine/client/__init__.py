"""The offloader's end of the link."""
