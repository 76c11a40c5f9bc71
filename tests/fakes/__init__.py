"""Metadata services of the clouds, on loopback: as strict as the real ones, and as bad as they can get.

By hand: python -m tests.fakes.aws --port 1338 --after 10
"""
