"""Options of the verbs that train with a run as the teacher, once for all of them, and their checks."""

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ktransfer.cli.options import CacheDir, Encoding, Format, TextColumn
from ktransfer.exporting.formats import FORMATS, format_names
from ktransfer.utils.terminal import print_line


def _options(
    unlabelled: Annotated[
        Path | None,
        typer.Option(
            "--unlabelled",
            "--unlabeled",
            help="Folder or table of examples without labels, whose answers by the teacher are learned.",
        ),
    ] = None,
    text_column: TextColumn = None,
    encoding: Encoding = None,
    temperature: Annotated[
        float, typer.Option(help="By which the teacher's logits are divided before they are learned.")
    ] = 2.0,
    weight: Annotated[
        float, typer.Option(help="Share of the teacher's answers in the loss of a labelled example, 0 to 1.")
    ] = 0.5,
    preset: Annotated[
        str | None,
        typer.Option(help="fast, balanced or best: training time against accuracy; best if left out."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=0, help="Epochs of fine-tuning; 0 trains the head only.")
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="A recipe as JSON, instead of the preset's; the seed stays the teacher's."),
    ] = None,
    class_weight: Annotated[
        str | None, typer.Option(help="balanced: every class counts the same, independent of its size.")
    ] = None,
    quantization_aware: Annotated[
        int | None,
        typer.Option(min=0, metavar="EPOCHS", help="Additional last epochs on a fake-quantized model."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run at --out.")] = False,
    cache: Annotated[
        bool, typer.Option(help="Cache the teacher's answers and the features of frozen layers.")
    ] = True,
    cache_dir: CacheDir = None,
    format: Format = None,
    no_export: Annotated[bool, typer.Option("--no-export", help="Only train and evaluate.")] = False,
) -> None: ...


def training_options(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that puts the shared options in the place of `**training` of a verb.

    Args:
        *left_out: Names of options that the verb has not.

    Example:

        @training_options()
        def distill(runs: ..., out: ..., **training: Any) -> None: ...
    """
    shared = [each for each in inspect.signature(_options).parameters.values() if each.name not in left_out]
    missing = {
        each.name: each.default
        for each in inspect.signature(_options).parameters.values()
        if each.name in left_out
    }

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        *own, _ = inspect.signature(verb).parameters.values()
        named = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in shared]

        def called(*given: Any, **options: Any) -> None:
            verb(*given, **(missing | options))

        called.__name__, called.__doc__ = verb.__name__, verb.__doc__
        called.__signature__ = inspect.Signature([*own, *named])  # type: ignore[attr-defined]
        return called

    return decorate


def checked(runs: Sequence[Path], out: Path, training: dict[str, Any]) -> dict[str, Any]:
    """The shared options as arguments of `distill`, `prune` and `shrink`, after all checks that need no TensorFlow.

    Args:
        runs: The teachers.
        out: The run folder to make.
        training: What `training_options` gave the verb.

    Raises:
        KTransferError: One cannot be, or the teachers or the folder will not do.

    Example:

        checked([Path("runs/large")], Path("runs/small"), training)["formats"]
    """
    from ktransfer.commands.checks import (
        check_backend,
        check_choice,
        check_exclusive,
        check_free_or_begun,
        check_path,
    )
    from ktransfer.errors import RunError
    from ktransfer.recipes.default_recipes import PRESETS
    from ktransfer.recipes.recipe import Recipe
    from ktransfer.runs.manifest import read_manifest

    given = dict(training)
    format, no_export = given.pop("format", None), given.pop("no_export", False)
    check_exclusive({"--format": bool(format), "--no-export": no_export}, "which artifacts to write")
    check_exclusive(
        {"--recipe": given["recipe"] is not None, "--epochs": given["epochs"] is not None},
        "how long to train",
    )
    check_exclusive(
        {"--recipe": given["recipe"] is not None, "--preset": given["preset"] is not None}, "how to train"
    )
    check_choice(given["preset"], PRESETS, "--preset")
    check_choice(given["class_weight"], ("balanced",), "--class-weight")
    check_path(given["recipe"], "--recipe")
    for run in runs:
        read_manifest(run)
    unlabelled = given["unlabelled"]
    if unlabelled is not None and not unlabelled.exists():
        raise RunError(f"Expected a folder or a file for --unlabelled, got {unlabelled}. Check the path.")
    formats = () if no_export else format_names(format or FORMATS)
    if formats:
        check_backend()
    check_free_or_begun(out, overwrite=given["overwrite"])
    recipe = given["recipe"]
    return given | {
        "formats": formats,
        "recipe": Recipe.from_json(recipe.read_bytes()) if recipe else None,
        "verbose": 1 if sys.stdout.isatty() else 2,
    }


@contextmanager
def training(out: Path) -> Iterator[None]:
    """Imports without their messages, and after Ctrl-C a line on how to go on, and the exit status 130.

    Args:
        out: The run folder that is being made.

    Example:

        with training(out):
            ...
    """
    try:
        yield
    except KeyboardInterrupt:
        print_line("\nInterrupted. Go on with the same command.", stderr=True)
        raise typer.Exit(130) from None
