"""Runs as teachers: their answers on examples, computed once and cached."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ktransfer.errors import DataError, RunError, listed
from ktransfer.models.predict import predict_in_batches
from ktransfer.runs.run import Run
from ktransfer.security.safe_io import is_line
from ktransfer.training.soft_targets import (
    SoftTargets,
    check_distillation,
    with_soft_targets,
    without_labels,
)

if TYPE_CHECKING:
    from ktransfer.core.typing import Array
    from ktransfer.data.examples import Examples, Splits
    from ktransfer.features.extract import Track
    from ktransfer.features.store import FeatureStore

_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Options of training on the answers of other runs, as a manifest has them under `distillation`.

    Args:
        teachers: Their run folders, whose answers are averaged.
        temperature: As in `SoftTargets`. Defaults to 2.
        weight: As in `SoftTargets`. Defaults to 0.5.
        unlabelled: Examples without labels: what `ktransfer predict` takes. Defaults to `None`.
        text_column: Of a table of them. Defaults to `None`, that of the teacher's data.
        encoding: Of a table of them. Defaults to `None`, UTF-8.

    Raises:
        RunError: There is no teacher.
        RecipeError: A number is out of range.

    Example:

        Distillation(teachers=("runs/large",), unlabelled="new_photos/")
    """

    teachers: tuple[str, ...]
    temperature: float = 2.0
    weight: float = 0.5
    unlabelled: str | None = None
    text_column: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        if not self.teachers:
            raise RunError("Expected a run as the teacher, got none. Pass one or more.")
        check_distillation(self.temperature, self.weight)

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON, as in the manifest."""
        return dataclasses.asdict(self) | {"teachers": list(self.teachers)}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave from a manifest.

        Raises:
            RunError: It is damaged.
        """
        known = {
            "temperature": float | int,
            "weight": float | int,
            **dict.fromkeys(("unlabelled", "text_column", "encoding"), str | None),
        }
        teachers = facts.get("teachers")
        if not isinstance(teachers, list) or not all(
            isinstance(name, str) and is_line(name) for name in teachers
        ):
            raise RunError(
                f"Expected the folders of the teachers in the manifest, got {teachers!r:.80}. Distill again."
            )
        for name, kind in known.items():
            if name not in facts or not isinstance(facts[name], kind):
                raise RunError(
                    f"Expected {name} of the distillation in the manifest, got {facts.get(name)!r:.80}. Distill again."
                )
        return cls(teachers=tuple(teachers), **{name: facts[name] for name in known})

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """The teachers, loaded; all of one modality and task, with the same labels.

        Raises:
            RunError: One is not trained, or they differ.
        """
        runs = tuple(Run.load(path) for path in self.teachers)
        for run in runs:
            if run.manifest["status"] != "trained":
                raise RunError(
                    f"Expected a trained run as the teacher, got {run.path}, whose status is "
                    f"{run.manifest['status']!r:.40}. Go on with `ktransfer train --resume --out {run.path}`."
                )
            if (run.modality.name, run.task.name) != (runs[0].modality.name, runs[0].task.name):
                raise RunError(
                    f"Expected teachers of {runs[0].modality.task} with the task {runs[0].task.name}, got "
                    f"{run.path} of {run.modality.task} with the task {run.task.name}. Leave it out."
                )
            if run.labels != runs[0].labels:
                raise RunError(
                    f"Expected teachers of the labels {listed(runs[0].labels)}, got {listed(run.labels)} in "
                    f"{run.path}. Leave it out, or train it on the same classes."
                )
            first, own = (_validation_of(each) for each in (runs[0], run))
            if first != own:
                raise RunError(
                    f"Expected teachers that were validated on the same examples as {runs[0].path}, got {run.path}, "
                    "which may have been trained on them. Train it with the same --seed, or both with --validation."
                )
        return runs

    def inputs_without_labels(self, splits: Splits) -> tuple[tuple[Any, ...], list[str]]:
        """The unlabelled examples, each once, and lines on what was left out.

        Args:
            splits: The labelled examples.

        Raises:
            DataError: Nothing is there, it cannot be read, or validation or test examples are among them.
        """
        if self.unlabelled is None:
            return (), []
        run, train = self.runs[0], splits.train
        facts = run.manifest.get("data", {})
        column: Any = self.text_column or facts.get("text_column")
        if train.are_pairs:
            column = facts.get("text_columns")
        found = run.modality.find_inputs([self.unlabelled], column=column, encoding=self.encoding)
        keys = list(run.modality.content_keys(found.items))
        for name in ("validation", "test"):
            split = getattr(splits, name)
            if split is None:
                continue
            held = set(run.modality.content_keys(split.inputs))
            if leaked := [item for item, key in zip(found.items, keys, strict=True) if key in held]:
                raise DataError(
                    f"Expected unlabelled {train.noun} other than those held out, got {len(leaked)} of the {name} "
                    f"split in {self.unlabelled}, such as {str(leaked[0])!r:.80}. Remove them."
                )
        known, kept = set(run.modality.content_keys(train.inputs)), []
        for item, key in zip(found.items, keys, strict=True):
            if key not in known:
                known.add(key)
                kept.append(item)
        notes = list(found.notes)
        if len(kept) < len(found.items):
            notes.append(f"{len(found.items) - len(kept)} {train.noun} are there twice or trained on already")
        if not kept:
            raise DataError(
                f"Expected unlabelled {train.noun} other than the training examples, got none in "
                f"{self.unlabelled}. Leave it out."
            )
        return tuple(kept), notes

    def soften(self, splits: Splits, store: FeatureStore | None, track: Track) -> Splits:
        """The splits as a student is trained on them: with the teachers' answers, and the unlabelled examples last.

        Args:
            splits: With their true labels.
            store: Where answers are cached; `None` computes them.
            track: Wraps the batches of a pass, as a progress bar does.

        Raises:
            DataError: As `inputs_without_labels`.
        """
        import dataclasses

        validation = splits.require_validation()
        task = SoftTargets(splits.train.task, temperature=self.temperature, weight=self.weight)
        unlabelled, _ = self.inputs_without_labels(splits)
        train, validating = (
            with_soft_targets(split, task, self._soft(task, split.inputs, split, store, track))
            for split in (splits.train, validation)
        )
        if unlabelled:
            soft = self._soft(task, unlabelled, splits.train, store, track)
            more = without_labels(train, unlabelled, task, soft)
            train = dataclasses.replace(train, groups=None).joined(more)
        return dataclasses.replace(splits, train=train, validation=validating, test=None)

    def _soft(
        self,
        task: SoftTargets,
        inputs: Sequence[Any],
        like: Examples,
        store: FeatureStore | None,
        track: Track,
    ) -> Array:
        logits = [teacher_logits(run, inputs, store=store, track=track) for run in self.runs]
        probabilities = [run.task.probabilities(each) for run, each in zip(self.runs, logits, strict=True)]
        return task.soft(probabilities, logits)


def teacher_logits(run: Run, inputs: Sequence[Any], *, store: FeatureStore | None, track: Track) -> Array:
    """The logits of a run on examples, from the store where they are cached.

    Args:
        run: Trained.
        inputs: Files or texts.
        store: Where they are cached, by the run's weights, its preprocessing and the contents; `None` for nowhere.
        track: Wraps the batches.

    Returns:
        float32 `(N, C)`.

    Example:

        teacher_logits(run, splits.train.inputs, store=store, track=untracked)
    """
    key = _key(run, inputs) if store is not None else ""
    rows = store.open(key) if store is not None else None
    if rows is not None:
        return rows.read(np.arange(len(inputs)))
    order = run.preprocessing.order(inputs)
    starts = range(0, len(inputs), _BATCH)
    batches = (
        run.preprocessing([inputs[index] for index in order[start : start + _BATCH]])
        for start in track(starts, len(starts), "asking the teacher")
    )
    found = np.zeros((len(inputs), len(run.outputs)), "float32")
    found[order] = np.concatenate(list(predict_in_batches(run.model, batches)))
    if store is not None:
        store.write(
            key, found.shape, "float32", [found], {"cut": "answers of a teacher", "run": str(run.path)}
        )
    return found


def _key(run: Run, inputs: Sequence[Any]) -> str:
    with open(run.path / "model.keras", "rb") as file:
        model = hashlib.file_digest(file, "sha256").hexdigest()
    _, digests = run.modality.digests(inputs)
    total = hashlib.sha256()
    for digest in digests:
        total.update(digest)
    facts = ["teacher", model, run.preprocessing.digest(), total.hexdigest(), len(inputs)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _validation_of(run: Run) -> Any:
    """A value that tells the validation split of a run from another's."""
    return run.manifest.get("data", {}).get("fingerprint", {}).get("validation")
