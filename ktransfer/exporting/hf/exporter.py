"""transformers: the fine-tuned classifier with the names and shapes of Hugging Face's weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from ktransfer.errors import ExportError
from ktransfer.exporting.hf import FACTS
from ktransfer.models.averaging import averaging_layer, name_in_layer, transformer_layers
from ktransfer.models.heads import Head
from ktransfer.models.locate import find_backbone
from ktransfer.utils.files import write_json

if TYPE_CHECKING:
    import keras

    from ktransfer.core.typing import Array
    from ktransfer.exporting.serving import Serving

_PROBLEMS = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
    "ner": None,  # AutoModelForTokenClassification has one
}
# Of keras-hub's layers and of Hugging Face's; a Dense kernel is written transposed.
_EMBEDDINGS = {
    "token_embedding/embeddings": "word_embeddings.weight",
    "position_embedding/embeddings": "position_embeddings.weight",
    "segment_embedding/embeddings": "token_type_embeddings.weight",
    "embeddings_layer_norm/gamma": "LayerNorm.weight",
    "embeddings_layer_norm/beta": "LayerNorm.bias",
}
_LAYER = {
    "self_attention_layer/query": "attention.self.query",
    "self_attention_layer/key": "attention.self.key",
    "self_attention_layer/value": "attention.self.value",
    "self_attention_layer/attention_output": "attention.output.dense",
    "self_attention_layer_norm": "attention.output.LayerNorm",
    "feedforward_intermediate_dense": "intermediate.dense",
    "feedforward_output_dense": "output.dense",
    "feedforward_layer_norm": "output.LayerNorm",
}
_DISTILBERT_LAYER = {
    "self_attention_layer/query": "attention.q_lin",
    "self_attention_layer/key": "attention.k_lin",
    "self_attention_layer/value": "attention.v_lin",
    "self_attention_layer/attention_output": "attention.out_lin",
    "self_attention_layer_norm": "sa_layer_norm",
    "feedforward_intermediate_dense": "ffn.lin1",
    "feedforward_output_dense": "ffn.lin2",
    "feedforward_layer_norm": "output_layer_norm",
}
_SIZES = {
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "activation": "hidden_act",
}
_DISTILBERT_SIZES = {
    "hidden": "dim",
    "layers": "n_layers",
    "heads": "n_heads",
    "intermediate": "hidden_dim",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation": "activation",
}
_KINDS = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
_TANH_GELU = "gelu_pytorch_tanh"  # of keras-hub's BERT and ELECTRA, whatever the checkpoint had


@dataclass(frozen=True)
class _Architecture:
    """Hugging Face's names of an architecture, its weights and its sizes.

    Attributes:
        classes: Before `ForSequenceClassification`.
        prefix: Of the weights of the encoder.
        dense, logits: The layers above the encoder, of which the first reads the first token.
        activation: Of the feed-forward layers.
        tanh: Whether `dense` has tanh; else ReLU or GELU.
        stack: The module with the layers of the encoder.
        layer: As `_LAYER`.
        sizes: As `_SIZES`.
        offset: Whether positions are counted from the id after that of padding.
    """

    classes: str
    prefix: str
    dense: str
    logits: str
    activation: str = "gelu"
    tanh: bool = True
    stack: str = "encoder.layer"
    layer: Mapping[str, str] = field(default_factory=lambda: _LAYER)
    sizes: Mapping[str, str] = field(default_factory=lambda: _SIZES)
    offset: bool = False


_HEAD = ("classifier.dense", "classifier.out_proj")
_ARCHITECTURES = {
    "bert": _Architecture("Bert", "bert", "bert.pooler.dense", "classifier", _TANH_GELU),
    "distilbert": _Architecture(
        "DistilBert",
        "distilbert",
        "pre_classifier",
        "classifier",
        tanh=False,
        stack="transformer.layer",
        layer=_DISTILBERT_LAYER,
        sizes=_DISTILBERT_SIZES,
    ),
    "electra": _Architecture("Electra", "electra", *_HEAD, _TANH_GELU, tanh=False),
    "roberta": _Architecture("Roberta", "roberta", *_HEAD, offset=True),
    "xlm-roberta": _Architecture("XLMRoberta", "roberta", *_HEAD, offset=True),
}


def write(
    serving: Serving, path: Path, *, fixed: dict[str, int], extra: Mapping[str, Any] | None = None
) -> None:
    """Write a folder that `transformers.AutoModelForSequenceClassification` loads, which gives logits.

    That of named entities is for `AutoModelForTokenClassification`; regression gives the number itself. The classifiers
    read the first token, so the encoder gets one more layer, which puts the average there.

    Args:
        serving: `Serving` of texts.
        path: The folder to write.
        fixed: Sizes of axes by name; none.
        extra: JSON-able facts, written to `ktransfer.json` next to the files of Hugging Face.

    Raises:
        ExportError: There is no such classifier of the backbone, or of the task.

    Example:

        write(serving, Path("transformers"), fixed={})
        transformers.AutoModelForSequenceClassification.from_pretrained("transformers").config.id2label
    """
    task = serving.task
    if task.name not in _PROBLEMS:
        raise ExportError(
            "Expected single-label or multi-label classification, regression or named entities for transformers, got "
            f"{task.title}. Export another format."
        )
    shift, scale = _scale(task.facts() or {}) if task.name == "regression" else (0.0, 1.0)
    path.mkdir(exist_ok=True)
    facts = serving.modality.hub_facts(serving, path)
    architecture = _ARCHITECTURES[facts["architecture"]]
    encoder = find_backbone(serving.model)
    layers = transformer_layers(encoder)
    weights = dict(_embedding_weights(encoder, architecture, facts["pad_token_id"]))
    for index, layer in enumerate(layers):
        weights.update(_layer_weights(architecture, index, layer, layer.weights))
    kernel, bias = (each / serving.temperature for each in Head.of(serving.model).folded())
    if task.per_token:
        weights.update(_dense("classifier", kernel, bias))
    else:
        values, dense, read = averaging_layer(layers[-1], kernel, bias, tanh=architecture.tanh)
        weights.update(_layer_weights(architecture, len(layers), layers[-1], values))
        weights.update(_dense(architecture.dense, dense, np.zeros(len(dense))))
        weights.update(_dense(architecture.logits, read * scale, np.full(len(bias), shift)))
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": [
            f"{architecture.classes}For{'Token' if task.per_token else 'Sequence'}Classification"
        ],
        "model_type": facts["architecture"],
        **_sizes(architecture, encoder, weights, layers, extra_layers=0 if task.per_token else 1),
        "pad_token_id": facts["pad_token_id"],
        "id2label": dict(enumerate(serving.class_names)),
        "label2id": {label: index for index, label in enumerate(serving.class_names)},
        "torch_dtype": "float32",
    }
    if _PROBLEMS[task.name] is not None:
        config["problem_type"] = _PROBLEMS[task.name]
    write_json(path / "config.json", config)
    write_json(
        path / FACTS,
        {"labels": serving.class_names, **(extra or {}), "temperature": serving.temperature, **facts},
    )


def _scale(facts: Mapping[str, Any]) -> tuple[float, float]:
    """`(shift, scale)` of the numbers that a regression answers, of its standardized output."""
    if facts.get("transform"):
        raise ExportError(
            "Expected a target without a transform for transformers, whose logits are the numbers, got "
            f"--target-transform {facts['transform']}. Train without it, or export another format."
        )
    return float(facts.get("mean", 0.0)), float(facts.get("deviation", 1.0))


def _sizes(
    architecture: _Architecture,
    encoder: keras.Model,
    weights: Mapping[str, Array],
    layers: list[keras.layers.Layer],
    *,
    extra_layers: int,
) -> dict[str, Any]:
    """The sizes of the network as `config.json` calls them."""
    tokens, embedded = weights[f"{architecture.prefix}.embeddings.word_embeddings.weight"].shape
    positions = len(weights[f"{architecture.prefix}.embeddings.position_embeddings.weight"])
    settings = layers[0].get_config()
    types = weights.get(f"{architecture.prefix}.embeddings.token_type_embeddings.weight")
    values = {
        "hidden": encoder.output_shape[-1],
        "layers": len(layers) + extra_layers,
        "heads": settings["num_heads"],
        "intermediate": settings["intermediate_dim"],
        "dropout": settings["dropout"],
        "attention_dropout": settings["dropout"],
        "activation": architecture.activation,
    }
    found = {architecture.sizes[name]: value for name, value in values.items()}
    found |= {"vocab_size": tokens, "max_position_embeddings": positions}
    if types is not None:
        found |= {
            "type_vocab_size": len(types),
            "layer_norm_eps": encoder.get_layer("embeddings_layer_norm").epsilon,
        }
    if architecture.classes == "Electra":
        found["embedding_size"] = embedded
    return found


def _embedding_weights(
    encoder: keras.Model, architecture: _Architecture, padding: int
) -> Iterator[tuple[str, Array]]:
    """The weights below the transformer layers by Hugging Face's names."""
    in_layers = {id(weight) for layer in transformer_layers(encoder) for weight in layer.weights}
    place, has_types = f"{architecture.prefix}.embeddings", False
    for weight in encoder.weights:
        if id(weight) in in_layers:
            continue
        value = np.ascontiguousarray(weight, np.float32)
        name = "/".join(weight.path.split("/")[-2:])
        has_types |= name.startswith("segment_embedding/")
        if name.startswith("embeddings_projection/"):
            yield from _named(f"{architecture.prefix}.embeddings_project", name.rpartition("/")[2], value)
        elif name not in _EMBEDDINGS:
            raise ExportError(
                f"Expected the weights of an encoder of keras-hub for transformers, got {weight.path}. Use keras-hub "
                "0.32."
            )
        elif architecture.offset and name.startswith("position_embedding/"):
            lacking = np.zeros((padding + 1, value.shape[1]), np.float32)
            yield f"{place}.{_EMBEDDINGS[name]}", np.concatenate([lacking, value])
        else:
            yield f"{place}.{_EMBEDDINGS[name]}", value
    if architecture.offset and not has_types:
        yield f"{place}.token_type_embeddings.weight", np.zeros((1, encoder.output_shape[-1]), np.float32)


def _layer_weights(
    architecture: _Architecture, index: int, layer: keras.layers.Layer, values: Iterable[Any]
) -> Iterator[tuple[str, Array]]:
    """Values of the weights of a transformer layer by Hugging Face's names of the layer `index`."""
    for weight, value in zip(layer.weights, values, strict=True):
        place, _, kind = name_in_layer(weight, layer).rpartition("/")
        if place not in architecture.layer:
            raise ExportError(
                f"Expected the weights of keras-hub's TransformerEncoder in {layer.name}, got {weight.path}. Use "
                "keras-hub 0.32."
            )
        array = np.asarray(value, np.float32)
        if kind == "kernel" and array.ndim == 3:  # attention's have an axis for the heads
            last = place.endswith("attention_output")
            array = array.reshape(-1, array.shape[2]) if last else array.reshape(array.shape[0], -1)
        yield from _named(
            f"{architecture.prefix}.{architecture.stack}.{index}.{architecture.layer[place]}",
            kind,
            array if kind == "kernel" else array.reshape(-1),
        )


def _dense(name: str, kernel: Array, bias: Array) -> Iterator[tuple[str, Array]]:
    for kind, value in (("kernel", kernel), ("bias", bias)):
        yield from _named(name, kind, np.asarray(value, np.float32))


def _named(name: str, kind: str, value: Array) -> Iterator[tuple[str, Array]]:
    """A weight of a layer as PyTorch has it: kernels are transposed."""
    yield f"{name}.{_KINDS[kind]}", np.ascontiguousarray(value.T if kind == "kernel" else value)
