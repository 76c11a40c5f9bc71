"""Checkpoints where any machine can reach them: a folder on a share, a bucket. See docs/remote.md, docs/format.md.

Nothing of it is imported unless a remote is asked for.
"""
