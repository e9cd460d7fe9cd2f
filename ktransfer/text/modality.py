"""Texts as a `Modality`. Each method imports what it needs, since most callers use only one."""

from __future__ import annotations

import hashlib
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
    from ktransfer.data.pairs import Pair
    from ktransfer.data.shards.contents import ShardContents
    from ktransfer.evaluation.metrics import Answers
    from ktransfer.exporting.parity import Parity
    from ktransfer.exporting.serving import Serving
    from ktransfer.exporting.web.packages import Package
    from ktransfer.models.network import Network
    from ktransfer.recipes.default_recipes import FineTuning
    from ktransfer.recipes.recipe import Recipe
    from ktransfer.runs.run import Run
    from ktransfer.text.augmentation import TextAugmentation
    from ktransfer.text.preprocessing import TextPreprocessing
    from ktransfer.text.serving import Texts


_TOKENIZED = 2_000  # texts that a tokenizer.json is proved on


class TextModality:
    """Texts: a string each, ids for the backbone. See `Modality` for what its methods promise."""

    name, kind, task, noun = "text", "text", "text-classification", "texts"
    holder, raw = "file", "as raw texts"
    sample, fitting, hub_task = '"a text"', "longer ones are cut", "TextClassifier"
    content, near_before_training = "text", False
    wide_cards = True
    columns = (
        *(
            "text_column",
            "text_columns",
            "label_column",
            "group_column",
            "label_separator",
            "task",
            "encoding",
        ),
    )
    facts = ("text_column", "label_column", "group_column", "label_separator", "task", "encoding")
    options = ("text_column", "text_columns", "sequence_length", "text_augmentation")
    export_options: frozenset[str] = frozenset()

    def identity(self, content: str | Pair) -> Hashable:
        from ktransfer.data.examples import normalised
        from ktransfer.data.pairs import sides

        # A pair and its mirror image are the same example.
        texts = sorted(map(normalised, sides(content)))
        return texts[0] if len(texts) == 1 else tuple(texts)

    def content_keys(self, inputs: Sequence[str | Pair]) -> Iterable[Hashable]:
        return map(self.identity, inputs)

    def digests(self, inputs: Sequence[str | Pair]) -> tuple[Iterable[str], Iterable[bytes]]:
        from ktransfer.data.pairs import sides

        texts = ("\0".join(sides(content)).encode("utf-8", "surrogatepass") for content in inputs)
        return [""] * len(inputs), [hashlib.sha256(text).digest() for text in texts]

    def load_preprocessing(self, run: Run) -> Preprocessing:
        from ktransfer.text.pair_preprocessing import PairPreprocessing
        from ktransfer.text.preprocessing import TextPreprocessing
        from ktransfer.text.token_preprocessing import preprocessing_of

        folder = run.path / "tokenizer"
        if "pair" in run.manifest.get("preprocessing", {}):
            return PairPreprocessing.load(folder)
        return preprocessing_of(run.task, TextPreprocessing.load(folder))

    def serving(
        self,
        model: keras.Model,
        class_names: Sequence[str],
        examples: Sequence[str] | Array,
        preprocessing: Preprocessing | None,
    ) -> Serving:
        from ktransfer.text.serving import serve_texts

        return serve_texts(model, class_names, cast("Sequence[str]", examples), _of_texts(preprocessing))

    def as_asked(self, serving: Serving, *, any_size: bool, uint8: bool) -> Serving:
        if any_size:
            serving.require_files()
        return serving  # ids are whole numbers already

    def client_facts(self, serving: Serving) -> dict[str, Any]:
        from ktransfer.text.client_tokenizer import compare_texts

        return compare_texts(serving)

    def saved_model_signatures(
        self, serving: Serving, serve: Callable[..., dict[str, Tensor]], *, default: str, module: tf.Module
    ) -> dict[str, Any]:
        from ktransfer.text.in_graph_tokenizer import text_signature

        return {default: text_signature(serving, serve, module), "ids": serve}

    def hub_model(self, serving: Serving) -> keras.Model:
        from ktransfer.text.hub_task import text_task

        return text_task(serving)

    def hub_facts(self, serving: Serving, folder: Path) -> dict[str, Any]:
        from ktransfer.text.hub_task import write_hub_tokenizer

        return write_hub_tokenizer(serving, folder)

    def web_facts(self, serving: Serving, folder: Path) -> tuple[dict[str, Any], tuple[Package, ...]]:
        from ktransfer.exporting.web.packages import TOKENIZERS
        from ktransfer.text.serving import web_facts

        return web_facts(serving, folder), (TOKENIZERS,)

    def tokenizer_graph(self, serving: Serving, fixed: Mapping[str, int]) -> bytes:
        from ktransfer.text.tokenizer_graph import tokenizer_graph

        return tokenizer_graph(_of_texts(serving.preprocessing), serving.inputs[0].shape(fixed)[1])

    def in_graph_facts(self, serving: Serving, further: Sequence[Any]) -> dict[str, Any]:
        from ktransfer.text.serving import check_one_text
        from ktransfer.text.tokenizer_graph import EXTENSIONS, compare_in_graph

        texts = check_one_text(serving, "onnx-strings")
        known = {*further}  # of a run its examples are among them
        compared = [*(text for text in texts if text not in known), *further]
        return {"name": EXTENSIONS, **compare_in_graph(_of_texts(serving.preprocessing), compared)}

    def described_signatures(self, serving: Serving, signature: dict[str, Any]) -> dict[str, Any]:
        from ktransfer.text.in_graph_tokenizer import text_inputs

        inputs = [each.describe({}) for each in text_inputs(_of_texts(serving.preprocessing))]
        return {"inputs": inputs, "output": signature["output"], "ids": signature}

    def sequence(self, serving: Serving, fixed: Mapping[str, int]) -> int | str | None:
        return serving.inputs[0].shape(fixed)[1] or "dynamic"

    def raw_parity(
        self,
        artifact: Callable[[dict[str, Array]], Array],
        serving: Serving,
        format: str,
        labels: Array | None,
    ) -> tuple[Parity, int | None]:
        from ktransfer.exporting.registry import get_format
        from ktransfer.text.in_graph_tokenizer import measure_text_parity
        from ktransfer.text.tokenizer_graph import ids_in_graph

        in_graph = ids_in_graph if get_format(format).family.tokenizes else None
        return measure_text_parity(artifact, serving, in_graph=in_graph)

    def check_raw_parity(self, parity: Parity, format: str, tolerance: float) -> None:
        parity.check(f"{format} (raw text)", tolerance)  # texts must give exactly the same ids

    def files_read(self, artifact: Callable[[dict[str, Array]], Array], serving: Serving) -> FilesRead | None:
        return None

    def load_splits(
        self, source: PathLike, *, task: str | None = None, **options: Any
    ) -> tuple[Splits, ColumnsRead | None]:
        from ktransfer.data.tasks import read_as
        from ktransfer.text.entity_sources import has_entities, load_entity_splits
        from ktransfer.text.sources import load_text_splits

        if options.get("text_columns") is None and has_entities(source, task):
            del options["text_columns"]
            return load_entity_splits(source, **options)
        _refuse_pairs_of_words(task)
        return read_as(load_text_splits, source, task=task, **options)

    def read(
        self,
        data: PathLike,
        *,
        class_names: Sequence[str] | None = None,
        data_dir: PathLike | None = None,
        **columns: str | None,
    ) -> tuple[Splits, ColumnsRead | None]:
        from ktransfer.data.tasks import read_as
        from ktransfer.text.entity_sources import has_entities, read_entities
        from ktransfer.text.sources import read_texts

        columns = {name: columns.get(name) for name in (*self.columns, "group_by")}
        if columns["text_columns"] is None and has_entities(data, columns["task"]):
            del columns["task"], columns["text_columns"]
            return read_entities(data, class_names=class_names, **columns)
        _refuse_pairs_of_words(columns["task"])
        return read_as(read_texts, data, class_names=class_names, data_dir=data_dir, **columns)

    def group_hint(self, examples: Examples) -> str | None:
        return None  # a text has no name

    def readable(
        self, examples: Examples, facts: Mapping[str, Any], progress: OnProgress | None = None
    ) -> Examples:
        return examples

    def reads_as_missing(self, name: str) -> bool:
        from ktransfer.data.label_names import reads_as_missing

        return reads_as_missing(name)

    def written_sidecars(self, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [manifest["tokenizer"]] if "tokenizer" in manifest else []

    def write_sidecars(
        self, preprocessing: Preprocessing, folder: Path, examples: Examples
    ) -> tuple[dict[str, Any], Iterable[str]]:
        from ktransfer.text.tokenizer_json import write_tokenizer

        given = _of_texts(preprocessing)
        texts = examples.evenly(_TOKENIZED).inputs
        found = write_tokenizer(
            given.as_tokenizer(), folder, texts=given.encoded(texts), pair=given.to_dict().get("pair")
        )
        path = f"{folder.name}/{found['path']}"
        tied = f", {found['tied_texts']} of them as probable" if found["tied_texts"] else ""
        line = f"tokenizer  ids agree on {found['compared_texts']} texts{tied}  {folder.parent / path}"
        return {"tokenizer": {**found, "path": path}}, (line,)

    def network(
        self,
        name: str,
        examples: Examples,
        recipe: Recipe,
        *,
        random_weights: bool = False,
        sequence_length: int | None = None,
        client: str | None = None,
        **others: Any,
    ) -> Network:
        from ktransfer.text.network import text_network

        return text_network(
            name,
            len(examples.task.output_names(examples.class_names)),
            recipe,
            random_weights=random_weights,
            texts=examples.inputs,
            sequence_length=sequence_length,
            client=client,
            task=examples.task,
            pairs=examples.are_pairs,
        )

    def default_recipe(self, *, examples: int, **options: Any) -> Recipe:
        from ktransfer.text.default_recipe import text_recipe

        return text_recipe(texts=examples, **options)

    def examine(
        self, items: Sequence[Item], *, workers: int | None = None, progress: OnProgress | None = None
    ) -> tuple[list[Finding], list[Hashable | None], Sequence[int], Callable[[Sequence[int]], Array]]:
        from ktransfer.text.audit_checks import examine_texts

        return examine_texts(items)

    def item_keys(self, root: PathLike | None) -> Callable[[str, str], str]:
        from ktransfer.text.audit_checks import text_keys

        return text_keys()

    def shown(self, content: str | Pair) -> str | list[str]:
        return content if isinstance(content, str) else list(content)

    def title(self, item: Item) -> str:
        return str(item.input)

    def named(self, item: Item) -> str:
        from ktransfer.utils.terminal import shortened

        return shortened(str(item.input))

    def as_html(self, content: str | Pair) -> str:
        from ktransfer.audit.html_page import quoted
        from ktransfer.data.pairs import sides

        return "".join(map(quoted, sides(content)))

    @property
    def augmentation(self) -> type[TextAugmentation]:
        from ktransfer.text.augmentation import TextAugmentation

        return TextAugmentation

    def find_inputs(
        self,
        inputs: Sequence[str],
        *,
        column: str | Sequence[str] | None = None,
        encoding: str | None = None,
    ) -> Inputs:
        from ktransfer.text.inputs import find_pairs, find_texts

        if column is None or isinstance(column, str):
            return find_texts(inputs, column=column, encoding=encoding)
        return find_pairs(inputs, columns=column, encoding=encoding)

    def check_inputs(self, inputs: Sequence[str], *, encoding: str | None = None) -> None:
        pass  # words are as good as files

    def shard_contents(self, *, pairs: bool = False) -> ShardContents:
        from ktransfer.text.shards import PAIR_SHARDS, TEXT_SHARDS

        return PAIR_SHARDS if pairs else TEXT_SHARDS

    def check_backbone_name(self, name: str, *, scaling: str | None = None) -> None:
        from ktransfer.models.backbone_names import check_backbone_name

        check_backbone_name(name, scaling=scaling)

    def by_name(self, inputs: ModelInputs) -> dict[str, Array]:
        return cast("dict[str, Array]", inputs)

    def verify_sidecars(self, path: PathLike, serving: Serving) -> None:
        from ktransfer.text.tokenizer_json import load_tokenizer, prove_tokenizer

        preprocessing = _of_texts(serving.preprocessing)
        texts = preprocessing.encoded(cast("Texts", serving.examples).texts)
        prove_tokenizer(load_tokenizer(path), preprocessing.as_tokenizer(), texts)

    def reads(self, preprocessing: Mapping[str, Any]) -> str:
        length = preprocessing["sequence_length"]
        if "pair" in preprocessing:
            return f"pairs of texts of up to {length} tokens together, the longer text cut first"
        texts = f"texts of up to {length} tokens"
        return f"{texts}, as mediapipe reads them" if "client" in preprocessing else texts

    def card(self, content: str | Pair, *, picture: bool) -> dict[str, Any]:
        from ktransfer.text.report import text_card

        return text_card(content)

    def explained(
        self, run: Run, answers: Answers, card_of: Callable[[int], dict[str, Any]]
    ) -> dict[str, Any]:
        from ktransfer.text.report import explained_texts

        return explained_texts(run, answers, card_of)

    def save_preprocessing(self, preprocessing: Preprocessing, run: Run) -> None:
        _of_texts(preprocessing).save(run.path / "tokenizer")

    @property
    def fine_tuning(self) -> FineTuning:
        from ktransfer.text.default_recipe import FINE_TUNING

        return FINE_TUNING

    @property
    def suffixes(self) -> tuple[str, ...]:
        from ktransfer.data.tables.file_bytes import TABLE_SUFFIXES

        return (".txt", *TABLE_SUFFIXES)

    def pretraining(self, data: PathLike, backbone: str, **options: Any) -> Pretraining:
        from ktransfer.text.pretraining.task import TextPretraining

        return TextPretraining(data, backbone, **options)

    def published_backbones(self) -> Mapping[str, Any]:
        import keras_hub

        return keras_hub.models.TextClassifier.presets

    def asked_augmentation(self, options: Mapping[str, Any]) -> Augmentation | None:
        share = options.get("text_augmentation")
        return None if share is None else self.augmentation(swap=share, deletion=share, typos=share)


def _of_texts(preprocessing: Preprocessing | None) -> TextPreprocessing:
    # A text classifier has no other.
    return cast("TextPreprocessing", preprocessing)


def _refuse_pairs_of_words(task: str | None) -> None:
    from ktransfer.core.task import get_task, task_names
    from ktransfer.errors import DataError

    if task in task_names() and get_task(task).per_token:
        raise DataError(
            f"Expected a task with one answer for a pair of texts, got {task!r}. Leave out --text-columns, or pass "
            "another --task."
        )


MODALITY = TextModality()
