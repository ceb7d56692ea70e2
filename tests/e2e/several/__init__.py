"""More than two real Home Assistants: who builds for whom, and what becomes of it."""
