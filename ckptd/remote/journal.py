"""What a store remembers of its dealings with a remote: remote.json in the job's folder."""

from __future__ import annotations

from dataclasses import dataclass, field

from ckptd.remote.pieces import PiecedFile, file_row, known_file
from ckptd.store import disk
from ckptd.store.layout import JobFolder
from ckptd.store.manifest import dump_json, load_json

JOURNAL = "remote.json"
MAX_BYTES = 256 << 20


@dataclass
class Journal:
    """So that an upload goes on where it was: files need not be cut and hashed again.

    What the remote has is asked of the remote itself, each time: others may have removed something.
    """

    folder: JobFolder
    url: str
    files: dict[str, PiecedFile] = field(default_factory=dict)
    """Tensor files by name; a name is never used for other bytes."""
    uploaded: str = ""
    """Name of the checkpoint that was uploaded last."""
    compared: set[str] = field(default_factory=set)
    """Names of pieces that this process has found right at the remote; not written down."""
    kept: bool = True
    """It is written down; not where it is not the job's own remote."""

    def save(self, keep: set[str]) -> None:
        """Write it, with those files only that are still in use. Raises OSError."""
        if not self.kept:
            return
        self.files = {name: file for name, file in self.files.items() if name in keep}
        rows = [file_row(file) for file in self.files.values()]
        fields = {"url": self.url, "uploaded": self.uploaded, "files": rows}
        disk.replace_file(self.folder.path / JOURNAL, dump_json(fields))


def load_journal(folder: JobFolder, url: str) -> Journal:
    """The journal, or an empty one where there is none, or only one that can't be read."""
    journal = Journal(folder, url)
    try:
        fields = load_json(disk.read_file(folder.path / JOURNAL, MAX_BYTES))
        files = [known_file(row) for row in fields["files"]]
        uploaded, known = fields["uploaded"], fields["url"]
    except (OSError, ValueError, TypeError, KeyError):
        return journal  # it only saves work
    journal.files = {file.name: file for file in files}
    if known == url and isinstance(uploaded, str):
        journal.uploaded = uploaded
    return journal
