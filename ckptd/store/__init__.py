"""The checkpoint store: folders on a disk that people can trust. See docs/format.md."""
