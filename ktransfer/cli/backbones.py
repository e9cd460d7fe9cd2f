"""`ktransfer backbones`."""

from typing import Annotated

import typer

from ktransfer.cli.options import AsJson
from ktransfer.errors import RunError
from ktransfer.utils.terminal import print_backbones, print_json, print_line, quiet_imports


def backbones(
    task: Annotated[str, typer.Option(help="image or text.")] = "image",
    max_params: Annotated[str | None, typer.Option(help="Only smaller ones, e.g. 10M.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the backbones that can be named, with their size; needs no network."""
    from ktransfer.commands.checks import check_choice
    from ktransfer.core.modality import modalities

    check_choice(task, [each.name for each in modalities()], "--task")
    limit = _number(max_params)
    with quiet_imports():
        from ktransfer.models.presets import list_backbones
    rows = list_backbones(task, max_params=limit)
    if as_json:
        print_json(rows)
        return
    print_backbones(rows)
    print_line(
        f"{len(rows)} backbones; a folder, a .keras file, hf:// and kaggle:// handles can be given as well"
    )


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    units = {"k": 1e3, "m": 1e6, "b": 1e9}
    try:
        number = float(text[:-1]) * units[text[-1].lower()] if text[-1:].lower() in units else int(text)
        if not 0 < number < float("inf"):
            raise ValueError
    except ValueError:
        raise RunError(
            f"Expected a number of parameters, such as 10M, got {text!r}. Pass --max-params 10M."
        ) from None
    return int(number)
