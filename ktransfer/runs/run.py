"""The run folder: the results of a training run, and a manifest that describes them."""

import datetime
import importlib.metadata
import platform
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ktransfer.core.modality import Modality, Preprocessing, modality_of_manifest
from ktransfer.core.task import SINGLE_LABEL, Task, get_task
from ktransfer.data.pairs import as_content
from ktransfer.errors import DataError, RunError
from ktransfer.models.depthwise import use_depthwise
from ktransfer.recipes.recipe import Recipe
from ktransfer.runs.manifest import FORMAT, MANIFEST, check_free, read_manifest
from ktransfer.security.keras_archive import load_keras_file
from ktransfer.security.safe_io import read_json
from ktransfer.utils.files import replacing, write_json

GROUPS = "groups.json"  # the group of each example, where a function of the user gave it
_PACKAGES = (
    *("ktransfer", "keras", "keras-hub", "tensorflow", "jax", "numpy", "pillow", "scikit-learn"),
    *("tf2onnx", "onnx", "onnxruntime", "ai-edge-litert"),
)


class Run:
    """A run folder that exists. Make one with `Run.create`, open one with `Run.load`.

    The folder holds `manifest.json`, `model.keras` (raw images, or ids of texts, to logits), `tokenizer/` for
    texts, `history.csv`, `metrics.json`, `confusion.png` and `artifacts/`. It loads in another process and on
    another Keras backend.

    Attributes:
        path: The folder.
        manifest: What `manifest.json` holds; change it with `update`.

    Example:

        run = ktransfer.Run.load("runs/flowers")
        run.predict(["rose.jpg"])[0]   # [{"label": "roses", "probability": 0.97}, ...]
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def create(cls, path: str | Path, manifest: dict[str, Any], *, overwrite: bool = False) -> "Run":
        """Make the folder and write its manifest.

        Raises:
            RunError: There is something there already, unless it is a run and `overwrite` is set.
        """
        path = Path(path)
        cls.check_free(path, overwrite=overwrite)
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path, {"format": FORMAT, "created": _now(), "versions": _versions(), **manifest})
        # First, so that one that is killed here leaves the old run or the new one.
        run.update()
        for item in path.iterdir():
            if item.name != MANIFEST:
                shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
        return run

    @staticmethod
    def check_free(path: str | Path, *, overwrite: bool = False) -> None:
        """Raise `RunError` if `create` would."""
        check_free(path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        """Open a run folder.

        Raises:
            RunError: It is not one, is damaged, or was written by a newer ktransfer.
        """
        return cls(Path(path), read_manifest(Path(path)))

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.manifest["labels"])

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the model's outputs: its labels, or of types of entities their tags."""
        return self.task.output_names(self.labels)

    @property
    def task(self) -> Task:
        """The task of the labels, such as single-label classification."""
        task = get_task(self.manifest.get("task", SINGLE_LABEL))
        return task.with_facts(self.manifest.get("data", {}).get("target"))

    @property
    def decision(self) -> dict[str, Any] | None:
        """The task's decision rule, such as `{"thresholds": [...]}`; `None` until evaluated."""
        return self.manifest.get("fitted", {}).get("decision")

    @property
    def modality(self) -> Modality:
        """The modality that reads, augments, exports and displays the run's examples."""
        return modality_of_manifest(self.manifest)

    @property
    def noun(self) -> str:
        """The noun for its examples in messages: `"images"`, `"texts"` or `"pairs"`."""
        return "pairs" if self.manifest.get("data", {}).get("text_columns") else self.modality.noun

    @cached_property
    def data(self) -> dict[str, Any]:
        """Options for reading the run's examples: the manifest's `data`, with `group_by` if `train` had one.

        Raises:
            RunError: The groups that were written are not there or damaged.
        """
        facts = self.manifest.get("data", {})
        if not facts.get("grouped"):
            return facts
        path = self.path / GROUPS
        try:
            groups = read_json(path)
        except (OSError, ValueError) as error:
            raise RunError(
                f"Expected the groups of the examples in {path}, got {error}. Train again."
            ) from error
        if not isinstance(groups, dict) or not all(isinstance(group, str) for group in groups.values()):
            raise RunError(f"Expected the group of each example in {path}, got {groups!r:.80}. Train again.")

        def group_by(name: str) -> str:
            if name not in groups:
                raise DataError(
                    f"Expected an example that the run was begun with, got {name!r:.80}, which is in none of its "
                    "groups. Remove it, or train again."
                )
            return groups[name]

        return facts | {"group_by": group_by}

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of the model's examples; for texts with the tokenizer in `tokenizer/`.

        Raises:
            RunError: What the manifest says of it, or the tokenizer, is not there or damaged.
        """
        return self.modality.load_preprocessing(self)

    @property
    def recipe(self) -> Recipe:
        return Recipe.from_dict(self.manifest["recipe"])

    @cached_property
    def model(self) -> keras.Model:
        """The classifier, raw images to logits, as it was last saved.

        Raises:
            RunError: It was never saved, or cannot be read.
        """
        path = self.path / "model.keras"
        if not path.is_file():
            raise RunError(
                f"Expected a trained model in {self.path}, got no {path.name}, which a run that stopped "
                "early does not have yet. Put it back, or go on with `train --resume`."
            )
        try:
            model = load_keras_file(path)
        except (OSError, ValueError, MemoryError) as error:
            raise RunError(f"Expected a readable Keras model in {path}, got {error}. Train again.") from error
        expected = self.task.output_axes((None, None), len(self.outputs))
        if getattr(model, "output_shape", None) != expected:
            raise RunError(
                f"Expected a classifier of the {len(self.labels)} labels in {MANIFEST} in {path}, got a "
                "model with another output. Train again."
            )
        if self.manifest.get("backbone", {}).get("fast_depthwise", True):
            use_depthwise(model)
        return model

    def update(self, **fields: Any) -> None:
        """Set fields of the manifest and write it."""
        self.manifest |= fields
        write_json(self.path / MANIFEST, self.manifest)

    def save_model(self, model: keras.Model) -> None:
        """Write `model.keras`, without the optimizer, which only training needs."""
        with replacing(self.path / "model.keras") as partial:
            keras.Model(model.input, model.output, name=model.name).save(partial)

    def predict_probabilities(
        self, inputs: Sequence[str | Path | tuple[str, str]], *, batch_size: int = 32
    ) -> np.ndarray:
        """Probabilities of image files, texts or pairs of texts: float32 `(N, classes)`.

        Of texts whose words are answered (`"ner"`) objects `(N,)`, each `WordAnswers`.
        """
        return self.preprocessing.probabilities(
            self.model, list(map(as_content, inputs)), len(self.outputs), self.task, batch_size=batch_size
        )

    def predict(
        self, inputs: Sequence[str | Path | tuple[str, str]], *, top_k: int = 5
    ) -> list[list[dict[str, Any]]]:
        """The most probable labels of image files or texts.

        Args:
            inputs: Images, in any format that Pillow reads; of a text classifier the texts themselves; of one of pairs
                both texts of each in a tuple.
            top_k: How many labels for each; fewer where there are fewer classes.

        Returns:
            For each `[{"label": ..., "probability": ...}, ...]`, most probable first. With several labels an example
            `chosen` says whether a label is answered; these come first, and all of them. Of named entities it is
            `{"label", "start", "end", "text", "probability"}` of each, in characters, in the order of the text.

        Raises:
            DataError: A file cannot be read as an image, or a text is given where pairs are expected.
        """
        return [
            self.task.answers(row, self.labels, self.decision, top_k=top_k)
            for row in self.predict_probabilities(inputs)
        ]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "backend": keras.backend.backend()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
