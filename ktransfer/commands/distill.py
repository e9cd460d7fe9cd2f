"""`ktransfer distill`: train a smaller model on the answers of one that is trained, or of several."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from ktransfer.commands.splits import Say, read_splits, readable
from ktransfer.commands.train import train_on
from ktransfer.commands.train_options import TrainOptions
from ktransfer.distillation.layers import of_own_layers
from ktransfer.distillation.teachers import Distillation
from ktransfer.errors import DataError, RecipeError, RunError, listed
from ktransfer.exporting.export_model import FORMATS, check_formats
from ktransfer.recipes.default_recipes import BEST, check_preset, preset_recipe
from ktransfer.recipes.recipe import Recipe
from ktransfer.runs.provenance import absolute
from ktransfer.runs.run import GROUPS, Run
from ktransfer.security.safe_io import read_json
from ktransfer.training.soft_targets import SoftTargets
from ktransfer.utils.machine import has_gpu
from ktransfer.utils.terminal import print_line

if TYPE_CHECKING:
    from ktransfer.core.typing import PathLike
    from ktransfer.data.examples import Splits

_OF_THE_DATA = ("examples", "fingerprint")


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
    paths = [teachers] if isinstance(teachers, str | Path) else list(teachers)
    distillation = Distillation(
        teachers=tuple(absolute(path) for path in paths),
        temperature=temperature,
        weight=weight,
        unlabelled=None if unlabelled is None else absolute(unlabelled),
        text_column=text_column,
        encoding=encoding,
    )
    Run.check_free(out, overwrite=overwrite)
    refuse_teachers_path(distillation, out)
    teacher = distillation.runs[0]
    SoftTargets(teacher.task, temperature=temperature, weight=weight)  # refuses what has no single answer
    read = read_as(teacher, options, say, verbose)
    splits = read[0]
    inputs, notes = distillation.inputs_without_labels(splits)
    for note in notes:
        say(f"note       {note}")
    recipe = student_recipe(teacher, splits, len(inputs), recipe, options)
    names = ", ".join(str(run.path) for run in distillation.runs)
    shares = [run.manifest.get("metrics", {}).get("validation") for run in distillation.runs]
    scores = ", ".join("unknown" if share is None else f"{share:.3f}" for share in shares)
    say(f"teacher    {names}; validation {teacher.task.score_title} {scores}")
    if inputs:
        say(f"unlabelled {len(inputs)} {splits.train.noun} of {unlabelled}")
    network = None
    if layers is not None:
        network = of_own_layers(teacher, layers, say)
        backbone = f"{teacher.manifest.get('backbone', {}).get('name', 'teacher')}, {layers} of its layers"
    run = train_on(
        read,
        read[1]["source"],
        str(backbone),
        out,
        recipe=recipe,
        options=dataclasses.replace(options, preset=None, epochs=None, seed=recipe.seed),
        formats=formats,
        overwrite=overwrite,
        cache=cache,
        cache_dir=cache_dir,
        callbacks=callbacks,
        report=report,
        distillation=distillation,
        network=network,
        reproduce=_command(distillation, backbone if layers is None else None, layers, absolute(out)),
        say=say,
        verbose=verbose,
    )
    larger, smaller = (each.model.count_params() for each in (teacher, run))
    if smaller > larger:
        say(f"warning    the student has {smaller:,} parameters, more than the {larger:,} of the teacher")
    mine, its = (each.manifest.get("metrics", {}).get("validation") for each in (run, teacher))
    if mine is not None and its is not None:
        say(
            f"student    {smaller:,} parameters, the teacher {larger:,}; validation {run.task.score_title} "
            f"{mine:.3f}, of the teacher {its:.3f}"
        )
    return run


def refuse_teachers_path(distillation: Distillation, out: PathLike) -> None:
    """Raise `RunError` where a student would replace its teacher.

    Example:

        refuse_teachers_path(distillation, "runs/student")
    """
    if absolute(out) in distillation.teachers:
        raise RunError(
            f"Expected a new folder for the student, got that of the teacher, {out}. Choose another."
        )


def read_as(
    teacher: Run, options: TrainOptions, say: Say, verbose: int | str
) -> tuple[Splits, dict[str, Any], dict[str, str]]:
    """The examples of a run, read and split as the run did it: as `train_on` takes them.

    Args:
        teacher: The run.
        options: Of the student; options that read data are refused.
        say, verbose: As in `train`.

    Raises:
        RunError: Its data is not there any more as it was, or an option would read it in another way.
    """
    defaults = TrainOptions()
    reading = [name for name in options.reading() if name not in ("image_size", "scaling", "sequence_length")]
    reading += ["validation", "validation_fraction", "test_fraction", "evaluate_test", "data_dir", "exclude"]
    reading += ["group_by", "target_transform"]
    changed = [name for name in reading if getattr(options, name) != getattr(defaults, name)]
    if changed:
        raise RunError(
            f"Expected the teacher's way to read its data, got {listed(changed)}. Leave it out: the student has the "
            "data and the splits of its teacher."
        )
    if options.seed is not None and options.seed != teacher.recipe.seed:
        raise RunError(
            f"Expected the teacher's seed, {teacher.recipe.seed}, which the split depends on, got {options.seed}. "
            "Leave it out, or train a teacher with this seed."
        )
    facts = {name: value for name, value in teacher.data.items() if name not in _OF_THE_DATA}
    splits = readable(read_splits(facts, teacher.recipe.seed)[0], facts, say, verbose=verbose)
    if splits.train.class_names != teacher.labels:
        raise DataError(
            f"Expected data with the classes of the teacher, {listed(teacher.labels)}, got "
            f"{listed(splits.train.class_names)} in {facts['source']}. Put its data back."
        )
    known = teacher.data.get("fingerprint")
    now = {name: getattr(splits, name).fingerprint() for name in known or () if getattr(splits, name, None)}
    if now != known:
        raise RunError(
            f"Expected the data that the teacher was trained on in {facts['source']}, got other examples. Put it "
            "back, or train the teacher again."
        )
    groups = {}
    if facts.pop("group_by", None) is not None:
        groups = read_json(teacher.path / GROUPS)
    for note in splits.notes:
        say(f"note       {note}")
    return splits, facts, groups


def student_recipe(
    teacher: Run, splits: Splits, unlabelled: int, recipe: Recipe | None, options: TrainOptions
) -> Recipe:
    """The recipe given with the teacher's seed, or the preset's for so many examples.

    Raises:
        RecipeError: Something in it does not go with soft targets.
    """
    options.check_recipe(recipe)
    if recipe is None:
        check_preset(options.preset or BEST)
        recipe = preset_recipe(
            splits.train.modality.noun,
            examples=len(splits.train) + unlabelled,
            preset=options.preset or BEST,
            gpu=has_gpu(),
            epochs=options.epochs,
            task=splits.train.task.name,
        )
        # Smoothed labels of a student take from the teacher's what it says of the other classes (Müller et al. 2019).
        recipe = dataclasses.replace(recipe, label_smoothing=0.0)
    changes = options.changes() | {"seed": teacher.recipe.seed}
    recipe = splits.train.task.adapted(dataclasses.replace(recipe, **changes))
    splits.train.task.check_recipe(recipe)
    if recipe.augmentation.mixes_labels:
        raise RecipeError(
            f"Expected an augmentation that mixes no examples, got {recipe.augmentation!r}. The answers of the teacher "
            "are to single ones: set mixup and cutmix to 0."
        )
    return recipe


def _command(distillation: Distillation, backbone: str | None, layers: int | None, out: str) -> str:
    words = ["ktransfer", "distill", *distillation.teachers]
    words += ["--layers", str(layers)] if backbone is None else ["--backbone", backbone]
    given = {
        "--unlabelled": distillation.unlabelled,
        "--text-column": distillation.text_column,
        "--encoding": distillation.encoding,
        "--temperature": distillation.temperature,
        "--weight": distillation.weight,
        "--recipe": f"{out}/recipe.json",
    }
    words += [str(word) for option, value in given.items() if value is not None for word in (option, value)]
    return shlex.join([*words, "--out", "NEW"])
