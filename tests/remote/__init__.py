"""Remotes: over memory, a disk, a share without links, and a real S3 server on loopback."""
