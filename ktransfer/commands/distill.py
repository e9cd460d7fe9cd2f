"""`ktransfer distill`: train a smaller model on the answers of one that is trained, or of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from ktransfer.commands.splits import Say
from ktransfer.commands.taught import Taught
from ktransfer.commands.train_options import TrainOptions
from ktransfer.distillation.layers import of_own_layers
from ktransfer.errors import RunError
from ktransfer.exporting.export_model import FORMATS, check_formats
from ktransfer.recipes.recipe import Recipe
from ktransfer.runs.run import Run
from ktransfer.utils.terminal import print_line


def distill(
    teachers: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    backbone: str | Path | None = None,
    layers: int | None = None,
    unlabelled: str | Path | None = None,
    temperature: float = 2.0,
    weight: float = 0.5,
    text_column: str | None = None,
    encoding: str | None = None,
    recipe: Recipe | None = None,
    options: TrainOptions | None = None,
    formats: Sequence[str] = FORMATS,
    overwrite: bool = False,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    report: bool = True,
    say: Say = print_line,
    verbose: int | str = 1,
    **changes: Any,
) -> Run:
    """Train a student on the labels of a run's data and on the run's answers, and keep it as a run of its own.

    The student reads the data of the first teacher, with the same splits, and has the teacher's seed. What the
    teachers answer is computed once and cached. Without a recipe all blocks train as by the preset `"best"`, with
    labels that are not smoothed.

    Args:
        teachers: A run folder, or several, whose answers are averaged.
        out: The run folder to make.
        backbone: Of the student, as in `train`. Defaults to `None`, for `layers`.
        layers: Make the student of so many of the teacher's own transformer layers, evenly chosen, in place of a
            backbone. Defaults to `None`.
        unlabelled: Examples without labels, of which the teachers' answers are learned: a folder or a table, as
            `predict` takes them. Defaults to `None`.
        temperature: By which logits are divided for the teachers' answers. Defaults to 2.
        weight: Share of the teachers' answers in the loss of a labelled example, in [0, 1]. Defaults to 0.5.
        text_column: Of a table of unlabelled texts. Defaults to `None`, that of the run.
        encoding: Of a table of unlabelled texts. Defaults to `None`, UTF-8.
        recipe: How to train. Defaults to `None`, that of the preset.
        options: `TrainOptions`, of which those that say how data is read are the teacher's. Defaults to `None`.
        formats, overwrite, cache, cache_dir, callbacks, say, verbose: As in `train`.
        report: Whether `report.html` is written. Defaults to `True`.
        **changes: Fields of `TrainOptions`, such as `image_size=160`.

    Returns:
        The `Run` of the student.

    Raises:
        KTransferError: A teacher is not trained or does not fit its data any more, unlabelled data holds examples of
            the validation or test split, or the backbone or the recipe will not do.

    Example:

        ktransfer.distill("runs/large", "runs/small", backbone="mobilenet_v2_100_imagenet", unlabelled="photos")
        ktransfer.distill("runs/minilm", "runs/three_layers", layers=3)

    Source: Hinton, Vinyals and Dean 2015; layers as in Sanh et al. 2019, "DistilBERT", section 3.
    """
    options = TrainOptions.of(options, changes)
    backbone = None if backbone is None else str(backbone)
    formats = check_formats(formats)
    if (backbone is None) == (layers is None):
        given = "none" if backbone is None else f"both, {backbone!r} and {layers}"
        raise RunError(
            f"Expected a backbone of the student, or a number of the teacher's layers, got {given}. Pass one."
        )
    taught = Taught.of(
        teachers,
        out,
        unlabelled=unlabelled,
        temperature=temperature,
        weight=weight,
        text_column=text_column,
        encoding=encoding,
        recipe=recipe,
        options=options,
        overwrite=overwrite,
        cache=cache,
        cache_dir=cache_dir,
        callbacks=callbacks,
        say=say,
        verbose=verbose,
    )
    run = train_student(taught, out, backbone=backbone, layers=layers, formats=formats, report=report)
    taught.compared(run, "student")
    return run


def train_student(
    taught: Taught,
    out: str | Path,
    *,
    backbone: str | None,
    layers: int | None,
    formats: Sequence[str] = (),
    report: bool = True,
) -> Run:
    """Train one student on another backbone, or on layers of the teacher.

    Args:
        taught: The teachers and their data.
        out, backbone, layers, formats, report: As in `distill`.

    Raises:
        KTransferError: As in `distill`.

    Example:

        train_student(Taught.of("runs/minilm", "runs/three"), "runs/three", backbone=None, layers=3)
    """
    command = taught.command("distill", {"--backbone": backbone, "--layers": layers})
    network, name = None, str(backbone)
    if layers is not None:
        taught.warn_of_refit()
        network = of_own_layers(taught.teacher, layers, taught.say)
        name = f"{taught.teacher.manifest.get('backbone', {}).get('name', 'teacher')}, {layers} of its layers"
    return taught.train(out, name, network=network, command=command, formats=formats, report=report)
