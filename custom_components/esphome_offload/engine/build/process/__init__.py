"""How commands run: their environment, their output, and what contains them."""
