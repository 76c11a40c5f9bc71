"""Small checkpoints for tests, and stores as earlier versions wrote them (format-1/)."""
