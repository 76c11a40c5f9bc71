"""One job at a remote: its record, its checkpoints, and which of them is the latest."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from ckptd.errors import CkptdError, DamagedError, RefusedError, RemoteError
from ckptd.remote.backend import Backend
from ckptd.remote.pieces import Piece, PiecedFile, file_row, files_of
from ckptd.remote.sealed import FORMAT, seal, unseal
from ckptd.store.environment import masked
from ckptd.store.job import JobRecord
from ckptd.store.manifest import ID, MAX_NUMBER, Manifest, decode, dump_json, load_json, plain
from ckptd.store.retention import Mark

MARKER = "ckptd-remote.json"
ENTRY = re.compile(r"(?P<name>\d{12}-[0-9a-f]{8})\.json")
MAX_BYTES = 128 << 20
"""Of a sealed file: a manifest of 16 MiB, and a million pieces."""


@dataclass(frozen=True)
class Entry:
    """A checkpoint that is listed at a remote."""

    manifest: Manifest
    text: str
    """Of its manifest."""
    begun: float
    """When the run of the job began that took it, as in its record; Unix seconds."""
    files: tuple[PiecedFile, ...]
    mark: Mark = field(default_factory=Mark)

    @property
    def name(self) -> str:
        """Of its folder in a store."""
        return self.manifest.folder

    @property
    def order(self) -> tuple[float, int, int, float]:
        """Later ones are larger."""
        return self.begun, self.manifest.branch, self.manifest.step, self.manifest.created

    def pieces(self) -> dict[str, Piece]:
        """All pieces, by the names of their objects."""
        return {piece.name: piece for file in self.files for piece in file.pieces}


class RemoteJob:
    """The objects of one job. All methods raise RemoteError."""

    def __init__(self, backend: Backend, job: str, *, remember: bool = False) -> None:
        """``remember``: ``entries`` reads each one once, for who looks again and again."""
        self._seen: dict[tuple[str, int], Entry] | None = {} if remember else None
        self.backend = backend
        self.id = job
        self.place = f"jobs/{job}"

    def where(self, name: str) -> str:
        """An object, for a sentence."""
        return f"{self.backend.url}: {self.place}/{name}"

    def path(self, name: str) -> str:
        """An object's whole name."""
        return f"{self.place}/{name}"

    # ---- the record -----------------------------------------------------------------------------

    def load_record(self) -> JobRecord | None:
        """What the remote knows of the job. Raises DamagedError, RefusedError."""
        fields = self._load("job.json")
        if fields is None:
            return None
        try:
            command = fields.pop("command")
            record = JobRecord(**fields)
            if record.id != self.id or not isinstance(command, str) or not isinstance(record.extra, dict):
                raise ValueError("it is of another job")
        except (TypeError, ValueError, KeyError) as error:
            raise DamagedError(f"{self.where('job.json')} is damaged: {error}") from error
        return replace(record, extra={**record.extra, "command": command})

    def save_record(self, record: JobRecord) -> None:
        """Keep what a machine that resumes must know, without the paths and secrets of this one."""
        extra = {name: record.extra[name] for name in ("instrument", "state") if name in record.extra}
        fields = {**asdict(record), "argv": masked(record.argv), "extra": plain(extra)}
        del fields["format"]
        fields["command"] = command_digest(record.argv)
        self._write("job.json", seal(fields))

    # ---- checkpoints ----------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Names of all checkpoints that are listed, by step."""
        return sorted(self._sizes())

    def _sizes(self) -> dict[str, int]:
        """The same, with the lengths of their files."""
        found = self.backend.list(self.path("checkpoints"))
        matches = {ENTRY.fullmatch(PurePosixPath(name).name): size for name, size in found.items()}
        return {match["name"]: size for match, size in matches.items() if match}

    def load_entry(self, name: str) -> Entry:
        """One checkpoint. Raises DamagedError, RefusedError (a newer format)."""
        file = f"checkpoints/{name}.json"
        fields = self._load(file)
        if fields is None:
            raise DamagedError(f"{self.where(file)} is not there")
        return entry_of(fields, name, self.id, self.where(file))

    def save_entry(self, entry: Entry) -> None:
        """List a checkpoint; all of its pieces must be there."""
        fields = {
            "name": entry.name, "begun": entry.begun, "manifest": entry.text, "tags": list(entry.mark.tags),
            "pinned": entry.mark.pinned, "files": [file_row(file) for file in entry.files],
        }  # fmt: skip
        self._write(f"checkpoints/{entry.name}.json", seal(fields))

    def entries(self) -> tuple[list[Entry], dict[str, CkptdError]]:
        """(all that can be read, oldest first; why the others can't, by name)."""
        errors: dict[str, CkptdError] = {}
        seen: dict[tuple[str, int], Entry] = {}
        for name, size in self._sizes().items():
            try:
                entry = (self._seen or {}).get((name, size)) or self.load_entry(name)
            except (DamagedError, RefusedError) as error:
                errors[name] = error
            else:
                seen[name, size] = entry
        if self._seen is not None:
            self._seen = seen
        return sorted(seen.values(), key=lambda entry: entry.order), errors

    # ---- latest ---------------------------------------------------------------------------------

    def latest(self) -> str:
        """Name of the checkpoint that a fresh host resumes; '' if there is none. Raises RefusedError."""
        try:
            fields = self._load("latest.json")
        except DamagedError:
            fields = None  # whatever happened to it, what is listed is whole
        name = (fields or {}).get("name")
        if isinstance(name, str) and ENTRY.fullmatch(f"{name}.json"):
            return name
        found, _ = self.entries()
        return found[-1].name if found else ""

    def move_latest(self, entry: Entry) -> None:
        """Point at a checkpoint that is listed."""
        self._write("latest.json", seal({"name": entry.name, "begun": entry.begun}))

    # ---- objects --------------------------------------------------------------------------------

    def objects(self) -> dict[str, int]:
        """Lengths of all pieces that are there, by name below the job."""
        cut = len(self.place) + 1
        return {name[cut:]: size for name, size in self.backend.list(self.path("objects")).items()}

    def _load(self, name: str) -> dict[str, Any] | None:
        data = self.backend.read(self.path(name), MAX_BYTES)
        if data is None:
            return None
        if len(data) > MAX_BYTES:
            raise DamagedError(f"{self.where(name)} is longer than {MAX_BYTES} bytes: it is none of ckptd's")
        return unseal(data, self.where(name))

    def _write(self, name: str, data: bytes) -> None:
        """Write a sealed file and look whether the remote has taken it as it is."""
        self.backend.write(self.path(name), data)
        if not self.backend.same(self.path(name), data):
            raise RemoteError(f"{self.where(name)} did not arrive as it was sent")


def entry_of(fields: dict[str, Any], name: str, job: str, where: str) -> Entry:
    """What a checkpoint's file at a remote says. Raises DamagedError, RefusedError (a newer format)."""
    text, begun, tags = fields.get("manifest"), fields.get("begun"), fields.get("tags")
    if not isinstance(text, str) or not isinstance(begun, int | float) or not isinstance(tags, list):
        raise DamagedError(f"{where} is damaged: it has no manifest")
    if not abs(begun) <= MAX_NUMBER:
        raise DamagedError(f"{where} is damaged: it has no time")
    try:
        manifest = decode(text.encode("utf-8", "surrogateescape"), where)
    except UnicodeEncodeError as error:
        raise DamagedError(f"{where} is damaged: its manifest is no text") from error
    if manifest.folder != name or manifest.job != job:
        raise DamagedError(f"{where} is of checkpoint {manifest.folder} of job {manifest.job}")
    mark = Mark(fields.get("pinned") is True, tuple(str(tag) for tag in tags))
    return Entry(manifest, text, float(begun), files_of(fields.get("files"), manifest, where), mark)


def command_digest(argv: list[str]) -> str:
    """By what a command is known without its words."""
    text = json.dumps(argv).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def open_root(backend: Backend, *, create: bool) -> None:
    """See that it is a remote of a format that we know; with ``create`` make it one. Raises RemoteError."""
    data = backend.read(MARKER, 1 << 16)
    if data is None:
        if not create:
            raise RemoteError(f"there is no remote of ckptd at {backend.url}", again=False)
        backend.write(MARKER, dump_json({"format": FORMAT}))
        return
    try:
        version = load_json(data).get("format")
    except ValueError as error:
        raise RemoteError(f"{backend.url}: {MARKER} is damaged ({error})", again=False) from error
    if not isinstance(version, int) or version > FORMAT:
        raise RemoteError(
            f"{backend.url} is of format {version}, this ckptd reads {FORMAT}: update ckptd", again=False
        )


def job_ids(backend: Backend) -> list[str]:
    """Ids of all jobs that a remote has. Raises RemoteError."""
    found = {PurePosixPath(name).parts[1] for name in backend.list("jobs") if name.count("/") >= 2}
    return sorted(name for name in found if ID.fullmatch(name))
