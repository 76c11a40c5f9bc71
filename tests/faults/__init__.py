"""File systems that fail."""
