"""A real queue whose builders are real peers."""
