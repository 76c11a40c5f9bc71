"""``ckptd export``: a checkpoint's tensors for programs that know nothing of ckptd."""

from __future__ import annotations

from pathlib import Path

import click

from ckptd.cli.output import job_option, json_option, print_json, printable, progress, store_option
from ckptd.errors import UsageError
from ckptd.store.layout import default_store, open_store
from ckptd.store.outward import FORMATS, export_checkpoint
from ckptd.store.quantity import bytes_text
from ckptd.store.selection import choose


@click.command("export")
@click.argument("wanted", metavar="CHECKPOINT")
@click.argument("to", type=click.Path(path_type=Path))
@click.option(
    "--format", "kind", type=click.Choice(FORMATS), default="safetensors", show_default=True,
    help="torch: a file for torch.load; dcp: a folder for torch.distributed.checkpoint.",
)  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Replace what is at TO.")
@job_option
@store_option
@json_option
def export(
    wanted: str, to: Path, kind: str, force: bool, job: str | None, store: Path | None, as_json: bool
) -> None:
    """Write the tensors of CHECKPOINT (the beginning of an id, or 'latest') to the file or folder TO.

    In a torch file, modules and optimizers are state dicts under the names of the program's variables.
    """
    if str(to) == "-":
        raise UsageError(
            "a checkpoint is exported to a file or folder, not to a pipe: name one (./- if need be)"
        )
    if to.exists() and not force:
        raise UsageError(f"{to} is there already: choose another name, or --force")
    if not to.absolute().parent.is_dir():
        raise UsageError(f"{to} can't be written: there is no folder {to.absolute().parent}")
    opened = open_store(store or default_store(), create=False)
    entry = choose(opened, wanted, job).entry
    if kind == "dcp" and to.exists():
        _check_old(to)
    with progress("exporting", entry.nbytes) as advance:
        done = export_checkpoint(entry.path, to, kind, advance)
    if as_json:
        print_json({"to": str(to), "tensors": done.tensors, "left_out": done.left_out})
        return
    click.echo(printable(f"{to}: {done.tensors} tensors of step {entry.step}, {bytes_text(done.nbytes)}"))
    for name, why in done.left_out.items():
        click.echo(printable(f"left out: {name}: {why}"))


def _check_old(to: Path) -> None:
    """Raise UsageError unless it is nothing but a checkpoint of torch.distributed, which may be replaced."""
    names = [path.name for path in to.iterdir()] if to.is_dir() and not to.is_symlink() else [to.name]
    others = [name for name in names if name != ".metadata" and not name.endswith(".distcp")]
    if others:
        raise UsageError(f"{to} is no exported checkpoint (it holds {others[0]!r}): choose another name")
