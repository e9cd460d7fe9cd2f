"""`ktransfer cache`."""

import dataclasses
from typing import Annotated

import typer

from ktransfer.cli.options import AsJson, CacheDir
from ktransfer.utils.terminal import print_entries, print_json, print_line


def cache(
    action: Annotated[str, typer.Argument(help="info or clear.")],
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Show or clear the cached features of frozen backbones."""
    from ktransfer.commands.checks import check_choice
    from ktransfer.features.store import FeatureStore
    from ktransfer.utils.files import cache_folder

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
