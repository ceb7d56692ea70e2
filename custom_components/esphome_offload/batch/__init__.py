"""Several devices in one call: which of them, in which order, within which limits."""
