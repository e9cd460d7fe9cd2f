"""`ktransfer backbones` and `ktransfer cache`: what there is."""

import dataclasses
from typing import Annotated

import typer

from ktransfer.cli.options import AsJson, CacheDir
from ktransfer.errors import RunError
from ktransfer.terminal import print_backbones, print_entries, print_json, print_line, quiet_imports


def backbones(
    task: Annotated[str, typer.Option(help="image or text.")] = "image",
    max_params: Annotated[str | None, typer.Option(help="Only smaller ones, e.g. 10M.")] = None,
    as_json: AsJson = False,
):
    """List the backbones that can be named, with their size; needs no network."""
    from ktransfer.jobs.checks import check_choice

    check_choice(task, ("image", "text"), "--task")
    limit = _number(max_params)
    with quiet_imports():
        from ktransfer.backbones import list_backbones
    rows = list_backbones(task, max_params=limit)
    if as_json:
        print_json(rows)
        return
    print_backbones(rows)
    print_line(
        f"{len(rows)} backbones; a folder, a .keras file, hf:// and kaggle:// handles can be given as well"
    )


def cache(
    action: Annotated[str, typer.Argument(help="info or clear.")],
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
):
    """Show or remove what was kept of frozen backbones, to be used by later runs."""
    from ktransfer.feature_store import FeatureStore
    from ktransfer.files import cache_folder
    from ktransfer.jobs.checks import check_choice

    check_choice(action, ("info", "clear"), "the action")
    store = FeatureStore((cache_dir or cache_folder()) / "features")
    if action == "clear":
        print_line(f"freed {store.clear() / 2**20:.1f} MiB in {store.folder}")
        return
    entries = store.entries()
    if as_json:
        print_json([dataclasses.asdict(entry) for entry in entries])
        return
    print_entries(entries)
    total = sum(entry.size_bytes for entry in entries) / 2**20
    print_line(f"{len(entries)} entries, {total:.1f} MiB in {store.folder}")


def _number(text):
    if text is None:
        return None
    units = {"k": 1e3, "m": 1e6, "b": 1e9}
    try:
        number = float(text[:-1]) * units[text[-1].lower()] if text[-1:].lower() in units else int(text)
        if not 0 < number < float("inf"):
            raise ValueError
    except ValueError:
        raise RunError(f"A number of parameters was expected, such as 10M. Received: {text!r}.") from None
    return int(number)
