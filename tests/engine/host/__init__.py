"""The builder's side of pairings."""
