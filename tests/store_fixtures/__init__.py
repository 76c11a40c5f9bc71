"""Small checkpoints for tests."""
