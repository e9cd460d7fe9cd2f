"""Training on the answers of other runs, as `distill`, `prune` and `shrink` have it in common."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import keras

from ktransfer.commands.checks import check_free_or_begun
from ktransfer.commands.splits import Say, read_splits, readable
from ktransfer.commands.train import BEGINNING, ReadExamples, resume, train_on
from ktransfer.commands.train_options import TrainOptions
from ktransfer.distillation.teachers import Distillation
from ktransfer.errors import DataError, RecipeError, RunError, listed
from ktransfer.exporting.artifact import fingerprint
from ktransfer.models.network import Network
from ktransfer.recipes.default_recipes import BEST, check_preset, preset_recipe
from ktransfer.recipes.recipe import Recipe
from ktransfer.runs.manifest import is_run, read_manifest
from ktransfer.runs.provenance import absolute
from ktransfer.runs.run import GROUPS, Run
from ktransfer.security.safe_io import read_json
from ktransfer.training.soft_targets import SoftTargets
from ktransfer.utils.machine import has_gpu
from ktransfer.utils.terminal import print_line

if TYPE_CHECKING:
    from ktransfer.data.examples import Splits

_OF_THE_DATA = ("examples", "fingerprint")


@dataclass(frozen=True, kw_only=True)
class Taught:
    """Teachers, the data of the first one as a student reads it, and how students are trained on both.

    Args:
        distillation: The teachers.
        read: The examples, as `train_on` takes them.
        recipe: Of every student.
        options: `TrainOptions` without what the recipe has.
        overwrite, cache, cache_dir, callbacks, say, verbose: As in `train`.

    Example:

        taught = Taught.of("runs/large", "runs/small")
        taught.train("runs/small", "mobilenet", command="ktransfer distill ...")
    """

    distillation: Distillation
    read: ReadExamples
    recipe: Recipe
    options: TrainOptions
    overwrite: bool = False
    cache: bool = True
    cache_dir: str | Path | None = None
    callbacks: Sequence[keras.callbacks.Callback] = ()
    say: Say = field(default=print_line)
    verbose: int | str = 1

    @classmethod
    def of(
        cls,
        teachers: str | Path | Sequence[str | Path],
        out: str | Path,
        *,
        unlabelled: str | Path | None = None,
        temperature: float = 2.0,
        weight: float = 0.5,
        text_column: str | None = None,
        encoding: str | None = None,
        recipe: Recipe | None = None,
        options: TrainOptions | None = None,
        overwrite: bool = False,
        say: Say = print_line,
        verbose: int | str = 1,
        **training: Any,
    ) -> Self:
        """Read the teachers and their data, and check everything that can be checked before training.

        Args:
            teachers, unlabelled, temperature, weight, text_column, encoding, recipe: As in `distill`.
            out: The run folder that is to be made.
            options: `TrainOptions`. Defaults to `None`, those by default.
            overwrite, say, verbose: As in `train`.
            **training: `cache`, `cache_dir`, `callbacks`, as in `train`.

        Raises:
            KTransferError: As in `distill`.
        """
        options = options or TrainOptions()
        paths = [teachers] if isinstance(teachers, str | Path) else list(teachers)
        distillation = Distillation(
            teachers=tuple(absolute(path) for path in paths),
            temperature=temperature,
            weight=weight,
            unlabelled=None if unlabelled is None else absolute(unlabelled),
            text_column=text_column,
            encoding=encoding,
        )
        check_free_or_begun(out, overwrite=overwrite)
        if absolute(out) in distillation.teachers:
            raise RunError(
                f"Expected a new folder for the student, got that of the teacher, {out}. Choose another."
            )
        teacher = distillation.runs[0]
        SoftTargets(teacher.task, temperature=temperature, weight=weight)  # refuses what has no single answer
        read = read_as(teacher, options, say, verbose)
        inputs, notes = distillation.inputs_without_labels(read[0])
        for note in notes:
            say(f"note       {note}")
        recipe = student_recipe(teacher, read[0], len(inputs), recipe, options)
        names = ", ".join(str(run.path) for run in distillation.runs)
        shares = [run.manifest.get("metrics", {}).get("validation") for run in distillation.runs]
        scores = ", ".join("unknown" if share is None else f"{share:.3f}" for share in shares)
        say(f"teacher    {names}; validation {teacher.task.score_title} {scores}")
        if inputs:
            say(f"unlabelled {len(inputs)} {read[0].train.noun} of {unlabelled}")
        return cls(
            distillation=distillation,
            read=read,
            recipe=recipe,
            options=dataclasses.replace(options, preset=None, epochs=None, seed=recipe.seed),
            overwrite=overwrite,
            say=say,
            verbose=verbose,
            **training,
        )

    @property
    def teacher(self) -> Run:
        """The first teacher, whose data is read."""
        return self.distillation.runs[0]

    def train(
        self,
        out: str | Path,
        backbone: str,
        *,
        network: Network | None = None,
        facts: Mapping[str, Any] | None = None,
        command: str,
        formats: Sequence[str] = (),
        report: bool = True,
    ) -> Run:
        """Train a student; one that the same command began goes on, and one that it finished is taken as it is.

        Args:
            out: The run folder to make.
            backbone: A name as `train` takes it, or with a network the name of that.
            network: The network to train. Defaults to `None`, one on the backbone.
            facts: More fields of the manifest. Defaults to none.
            command: That does the same again, with the recipe at `RECIPE_FILE`.
            formats: What to export. Defaults to nothing.
            report: Whether `report.html` is written. Defaults to `True`.

        Raises:
            RunError: Another run lies at `out`.
        """
        made_by = self.made_by(command)
        if not self.overwrite and is_run(Path(out)):
            manifest = read_manifest(Path(out))
            if manifest.get("reproduce", {}).get("made_by") != made_by:
                raise RunError(
                    f"Expected the command, recipe and options that the run in {out} was begun with, got others. "
                    "Repeat those, choose another --out, or pass --overwrite to lose it."
                )
            if manifest["status"] == "trained":
                return Run.load(out)
            if manifest["status"] != BEGINNING:  # or there is no model to go on with
                self.say(f"resumed    {out}")
                return resume(out, formats=formats, say=self.say, verbose=self.verbose)
        return train_on(
            self.read,
            self.read[1]["source"],
            backbone,
            out,
            recipe=self.recipe,
            options=self.options,
            formats=formats,
            overwrite=True,
            cache=self.cache,
            cache_dir=self.cache_dir,
            callbacks=self.callbacks,
            report=report,
            distillation=self.distillation,
            network=network,
            facts=facts,
            reproduce={
                "command": command.replace(RECIPE_FILE, f"{absolute(out)}/recipe.json"),
                "made_by": made_by,
            },
            say=self.say,
            verbose=self.verbose,
        )

    def command(self, verb: str, given: Mapping[str, Any]) -> str:
        """The command that does the same again, with `RECIPE_FILE` for the recipe.

        Args:
            verb: Such as `"distill"`.
            given: Values by option; those that are `None` are left out.
        """
        taught = self.distillation
        given = {
            **given,
            "--unlabelled": taught.unlabelled,
            "--text-column": taught.text_column,
            "--encoding": taught.encoding,
            "--temperature": taught.temperature,
            "--weight": taught.weight,
        }
        words = [
            str(word) for option, value in given.items() if value is not None for word in (option, value)
        ]
        line = shlex.join(["ktransfer", verb, *taught.teachers, *words])
        return f"{line} --recipe {RECIPE_FILE} --out NEW"

    def made_by(self, command: str) -> str:
        """A digest of all that the result of a command depends on.

        Args:
            command: From `command`.
        """
        reading = {name: str(value) for name, value in self.options.reading().items() if value is not None}
        weights = [fingerprint(run.path / "model.keras")[0] for run in self.distillation.runs]
        facts = [command, self.recipe.to_json(), reading, self.read[1].get("source"), weights]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def warn_of_refit(self) -> None:
        """Warn where a network that has the teacher's weights has seen the validation examples."""
        if self.teacher.manifest.get("refit"):
            self.say(
                f"warning    {self.teacher.path} was refit on its validation examples, so that the score on them of a "
                "network with its weights is optimistic"
            )

    def compared(self, run: Run, name: str) -> None:
        """Log sizes and scores of a student and its teacher, and warn of one that is larger."""
        larger, smaller = (each.model.count_params() for each in (self.teacher, run))
        if smaller > larger:
            self.say(
                f"warning    the student has {smaller:,} parameters, more than the {larger:,} of the teacher"
            )
        mine, its = (each.manifest.get("metrics", {}).get("validation") for each in (run, self.teacher))
        if mine is not None and its is not None:
            self.say(
                f"{name:<10} {smaller:,} parameters, the teacher {larger:,}; validation {run.task.score_title} "
                f"{mine:.3f}, of the teacher {its:.3f}"
            )


RECIPE_FILE = "RECIPE"


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
