"""Where the folder is that a job's PYTHONPATH names so that the agent is started in it."""

from __future__ import annotations

from pathlib import Path

from ckptd.errors import CkptdError

_PACKAGE = Path(__file__).resolve().parent


def bootstrap_folder(package: Path = _PACKAGE) -> Path:
    """The folder that holds the agent's sitecustomize.py, and nothing else that can be imported.

    ``package`` is the folder of the package ``ckptd``. An installed wheel carries the folder inside
    ``ckptd_agent``, a development install uses ``agent/bootstrap`` of the working tree. Nothing of
    the agent is imported to find it.

    Raises:
        CkptdError: the installation is incomplete.
    """
    candidates = (
        package.parent / "ckptd_agent" / "bootstrap",  # wheel
        package.parent / "agent" / "bootstrap",  # pip install -e
    )
    for folder in candidates:
        if (folder / "sitecustomize.py").is_file():
            return folder
    raise CkptdError(
        f"the agent is missing: no sitecustomize.py in {candidates[0]}; "
        "install ckptd again (pip install --force-reinstall --no-deps ckptd)"
    )
