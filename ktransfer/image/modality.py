"""Images as a `Modality`. Each method imports what it needs, since most callers use only one."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from ktransfer.audit.findings import Finding, Item
    from ktransfer.core.modality import Augmentation, ColumnsRead, FilesRead, Preprocessing
    from ktransfer.core.pretraining import Pretraining
    from ktransfer.core.typing import Array, ModelInputs, OnProgress, PathLike, Tensor
    from ktransfer.data.examples import Examples, Splits
    from ktransfer.data.inputs import Inputs
    from ktransfer.data.shards.contents import ShardContents
    from ktransfer.evaluation.metrics import Answers
    from ktransfer.exporting.parity import Parity
    from ktransfer.exporting.serving import Serving
    from ktransfer.exporting.web.packages import Package
    from ktransfer.models.network import Network
    from ktransfer.recipes.default_recipes import FineTuning
    from ktransfer.recipes.recipe import Recipe
    from ktransfer.runs.run import Run


class ImageModality:
    """Image files: a path each, pixels for the backbone. See `Modality` for what its methods promise."""

    name, kind, task, noun = "image", "file", "image-classification", "images"
    holder, raw = "folder", "as image files"
    sample, fitting, hub_task = "photo.jpg", "others are resized", "ImageClassifier"
    content, near_before_training = "path", True
    wide_cards = False
    options = ("image_size", "scaling", "skip_corrupt", "file_column")
    columns = ("file_column", "label_column", "group_column", "label_separator", "task", "encoding")
    facts = ("skip_corrupt",)
    export_options = frozenset({"any_size", "uint8"})

    def identity(self, content: str) -> Hashable:
        from ktransfer.data.shards.address import parsed

        # A shard is no folder: its own path is resolved, not that of the address.
        found = parsed(content)
        if found is None:
            return os.path.realpath(content)
        return os.path.realpath(found[0]) + content[len(found[0]) :]

    def content_keys(self, inputs: Sequence[str]) -> Iterable[Hashable]:
        from ktransfer.data.file_digests import content_keys

        return content_keys(inputs)

    def digests(self, inputs: Sequence[str]) -> tuple[Iterable[str], Iterable[bytes]]:
        from ktransfer.data.file_digests import digests
        from ktransfer.data.shards.address import name_of

        return map(name_of, inputs), digests(inputs)

    def load_preprocessing(self, run: Run) -> Preprocessing:
        from ktransfer.errors import RunError
        from ktransfer.image.preprocessing import Preprocessing

        try:
            return Preprocessing.from_dict(run.manifest["preprocessing"])
        except (TypeError, ValueError, KeyError) as error:
            raise RunError(
                f"Expected how images are read in {run.path / 'manifest.json'}, got {error}. Train again."
            ) from error

    def serving(
        self,
        model: keras.Model,
        class_names: Sequence[str],
        examples: Sequence[str] | Array,
        preprocessing: Preprocessing | None,
    ) -> Serving:
        from ktransfer.image.serving import serve_images

        return serve_images(model, class_names, examples, preprocessing)

    def as_asked(self, serving: Serving, *, any_size: bool, uint8: bool) -> Serving:
        from ktransfer.image.serving import in_uint8, of_any_size

        serving = of_any_size(serving) if any_size else serving
        return in_uint8(serving) if uint8 else serving

    def client_facts(self, serving: Serving) -> dict[str, Any]:
        return {}

    def saved_model_signatures(
        self, serving: Serving, serve: Callable[..., dict[str, Tensor]], *, default: str, module: tf.Module
    ) -> dict[str, Any]:
        from ktransfer.image.in_graph.signatures import file_signatures

        return {default: serve, **(file_signatures(serving) if serving.files else {})}

    def hub_model(self, serving: Serving) -> keras.Model:
        from ktransfer.image.hub_task import image_task

        return image_task(serving)

    def web_facts(self, serving: Serving, folder: Path) -> tuple[dict[str, Any], tuple[Package, ...]]:
        from ktransfer.exporting.web.packages import LITERT
        from ktransfer.image.serving import web_facts

        return web_facts(serving), (LITERT,)

    def tokenizer_graph(self, serving: Serving, fixed: Mapping[str, int]) -> bytes:
        from ktransfer.errors import ExportError

        raise ExportError("Expected a run on texts for onnx-strings, got images. Export onnx.")

    def in_graph_facts(self, serving: Serving, further: Sequence[Any]) -> dict[str, Any]:
        from ktransfer.errors import ExportError

        raise ExportError("Expected a run on texts for onnx-strings, got images. Export onnx.")

    def described_signatures(self, serving: Serving, signature: dict[str, Any]) -> dict[str, Any]:
        from ktransfer.image.file_parity import FILE, PIXEL_FILE, PIXELS
        from ktransfer.image.serving import resize_of

        resize = resize_of(serving)
        pixels = {"name": "pixels", "shape": [None, resize.height, resize.width, 3], "dtype": "float32"}
        return {
            **signature,
            FILE.name: {"inputs": [FILE.describe({})], "output": signature["output"]},
            PIXELS: {"inputs": [PIXEL_FILE.describe({})], "output": pixels},
        }

    def sequence(self, serving: Serving, fixed: Mapping[str, int]) -> int | str | None:
        return None

    def raw_parity(
        self,
        artifact: Callable[[dict[str, Array]], Array],
        serving: Serving,
        format: str,
        labels: Array | None,
    ) -> tuple[Parity, int | None]:
        from ktransfer.image.file_parity import measure_file_parity, measure_size_parity

        measure = measure_file_parity if format == "savedmodel" else measure_size_parity
        return measure(artifact, serving, labels), None

    def check_raw_parity(self, parity: Parity, format: str, tolerance: float) -> None:
        from ktransfer.image.file_parity import LIMITS

        # A pixel may differ by a grey level, which `FilesRead.check` holds; so labels count.
        parity.check_labels(f"{format} (image files)", **LIMITS)

    def files_read(self, artifact: Callable[[dict[str, Array]], Array], serving: Serving) -> FilesRead | None:
        from ktransfer.image.file_parity import measure_pixels

        return measure_pixels(artifact, serving)

    def load_splits(
        self, source: PathLike, *, task: str | None = None, **options: Any
    ) -> tuple[Splits, ColumnsRead | None]:
        from ktransfer.data.tasks import read_as
        from ktransfer.image.sources import load_image_splits

        return read_as(load_image_splits, source, task=task, **options)

    def read(
        self,
        data: PathLike,
        *,
        class_names: Sequence[str] | None = None,
        data_dir: PathLike | None = None,
        **columns: str | None,
    ) -> tuple[Splits, ColumnsRead | None]:
        from ktransfer.data.tasks import read_as
        from ktransfer.image.sources import read_images

        columns = {name: columns.get(name) for name in (*self.columns, "group_by")}
        return read_as(read_images, data, class_names=class_names, data_dir=data_dir, **columns)

    def group_hint(self, examples: Examples) -> str | None:
        from ktransfer.data.groups import suggest_groups

        return suggest_groups(examples.inputs, examples.label_names)

    def readable(
        self, examples: Examples, facts: Mapping[str, Any], progress: OnProgress | None = None
    ) -> Examples:
        from ktransfer.image.checks import require_readable

        return require_readable(examples, skip_corrupt=facts["skip_corrupt"], progress=progress)

    def reads_as_missing(self, name: str) -> bool:
        return False  # a folder was given its name by somebody

    def written_sidecars(self, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
        return []

    def write_sidecars(
        self, preprocessing: Preprocessing, folder: Path, examples: Examples
    ) -> tuple[dict[str, Any], Iterable[str]]:
        return {}, ()

    def network(
        self,
        name: str,
        examples: Examples,
        recipe: Recipe,
        *,
        random_weights: bool = False,
        image_size: int | tuple[int, int] | None = None,
        scaling: str | None = None,
        fast_depthwise: bool = True,
        client: str | None = None,
        **others: Any,
    ) -> Network:
        from ktransfer.image.network import image_network

        return image_network(
            name,
            len(examples.class_names),
            recipe,
            random_weights=random_weights,
            image_size=image_size,
            scaling=scaling,
            fast_depthwise=fast_depthwise,
            client=client,
        )

    def default_recipe(self, *, examples: int, **options: Any) -> Recipe:
        from ktransfer.image.default_recipe import image_recipe

        return image_recipe(images=examples, **options)

    def examine(
        self, items: Sequence[Item], *, workers: int | None = None, progress: OnProgress | None = None
    ) -> tuple[list[Finding], list[Hashable | None], Sequence[int], Callable[[Sequence[int]], Array]]:
        from ktransfer.image.audit_checks import examine_images

        return examine_images(items, workers=workers, progress=progress)

    def item_keys(self, root: PathLike | None) -> Callable[[str, str], str]:
        from ktransfer.image.audit_checks import path_below

        # Files that a table names lie below its folder.
        root = os.path.dirname(os.path.abspath(root)) if root and os.path.isfile(root) else root
        return lambda path, label: path_below(path, root)

    def shown(self, content: str) -> str:
        from ktransfer.data.examples import printable

        return printable(content)

    def title(self, item: Item) -> str:
        return self.shown(item.key)

    def named(self, item: Item) -> str:
        return self.shown(item.key)

    def as_html(self, content: str) -> str:
        from ktransfer.image.thumbnails import audit_picture

        return audit_picture(content)

    @property
    def augmentation(self) -> type[Augmentation]:
        from ktransfer.image.augmentation import Augmentation

        return Augmentation

    def find_inputs(self, inputs: Sequence[str], *, encoding: str | None = None, **columns: Any) -> Inputs:
        from ktransfer.image.inputs import find_images

        self._refuse_encoding(encoding)
        return find_images(inputs)

    def check_inputs(self, inputs: Sequence[str], *, encoding: str | None = None) -> None:
        from ktransfer.image.inputs import find_images

        self._refuse_encoding(encoding)
        find_images(inputs, decode=False)

    def _refuse_encoding(self, encoding: str | None) -> None:
        from ktransfer.errors import DataError

        if encoding is not None:
            raise DataError(f"Expected images without --encoding, got --encoding {encoding}. Leave it out.")

    def shard_contents(self, *, pairs: bool = False) -> ShardContents:
        from ktransfer.image.shards import IMAGE_SHARDS

        return IMAGE_SHARDS

    def check_backbone_name(self, name: str, *, scaling: str | None = None) -> None:
        from ktransfer.image.backbone_names import check_image_backbone_name

        check_image_backbone_name(name, scaling=scaling)

    def by_name(self, inputs: ModelInputs) -> dict[str, Array]:
        from ktransfer.image.serving import INPUT

        return {INPUT: cast("Array", inputs)}

    def verify_sidecars(self, path: PathLike, serving: Serving) -> None:
        pass  # nothing was written

    def reads(self, preprocessing: Mapping[str, Any]) -> str:
        size = f"images of {preprocessing['height']} x {preprocessing['width']} pixels"
        return f"{size}, as mediapipe reads them" if preprocessing["interpolation"] == "mediapipe" else size

    def card(self, content: str, *, picture: bool) -> dict[str, Any]:
        from ktransfer.image.report import image_card

        return image_card(content, picture=picture)

    def explained(
        self, run: Run, answers: Answers, card_of: Callable[[int], dict[str, Any]]
    ) -> dict[str, Any]:
        from ktransfer.image.report import explained_images

        return explained_images(run, answers, card_of)

    def save_preprocessing(self, preprocessing: Preprocessing, run: Run) -> None:
        pass  # the manifest holds all of it

    @property
    def fine_tuning(self) -> FineTuning:
        from ktransfer.image.default_recipe import FINE_TUNING

        return FINE_TUNING

    @property
    def suffixes(self) -> tuple[str, ...]:
        from ktransfer.image.decoding import IMAGE_EXTENSIONS

        return IMAGE_EXTENSIONS

    def pretraining(self, data: PathLike, backbone: str, **options: Any) -> Pretraining:
        from ktransfer.errors import DataError

        raise DataError(
            f"Expected unlabeled texts to pretrain on, got {data}, which is of images. Pass a table, a .txt file or a "
            "folder of texts."
        )

    def published_backbones(self) -> Mapping[str, Any]:
        import keras_hub

        return keras_hub.models.ImageClassifier.presets | keras_hub.models.DINOV2Backbone.presets

    def asked_augmentation(self, options: Mapping[str, Any]) -> Augmentation | None:
        return None  # the recipe has it; no option says how strong


MODALITY = ImageModality()
