"""The builder's end of a pairing: guests, their attempts and workspaces."""
