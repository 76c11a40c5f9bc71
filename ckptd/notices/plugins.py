"""Sources that other packages bring along: entry points of the group ``ckptd.notices``."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from ckptd.errors import UsageError
from ckptd.notices.event import Source

GROUP = "ckptd.notices"


def find_plugins() -> dict[str, EntryPoint]:
    """Those that are installed, by name; none of them is loaded."""
    return {point.name: point for point in entry_points(group=GROUP)}


def plugin_source(point: EntryPoint, argument: str) -> Source:
    """The source that a plug-in makes of what follows its name; raises UsageError, whatever goes wrong in it."""
    try:
        source = point.load()(argument)
    except UsageError:
        raise
    except Exception as error:  # it is anybody's code
        text = " ".join(str(error).split()) or "no reason is given"
        raise UsageError(
            f"--notices {point.name}: the plug-in {point.value} fails: {type(error).__name__}: {text}"
        ) from error
    if not isinstance(getattr(source, "name", None), str) or not callable(getattr(source, "watch", None)):
        raise UsageError(f"--notices {point.name}: what {point.value} makes has no name, or no watch()")
    return source  # type: ignore[no-any-return] # as much of it is known as can be seen
