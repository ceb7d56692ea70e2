"""What people read: reasons and errors, in their language."""
