"""Shared memory that a dump is copied into, and that outlives the process it was copied from."""
