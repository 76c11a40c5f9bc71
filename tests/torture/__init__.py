"""Processes that are killed while they write, and disks that forget what was not synced."""
