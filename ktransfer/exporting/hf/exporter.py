"""transformers: the fine-tuned classifier with the names and shapes of Hugging Face's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from ktransfer.errors import ExportError
from ktransfer.utils.files import write_json

if TYPE_CHECKING:
    from ktransfer.core.typing import Array
    from ktransfer.exporting.serving import Serving

FACTS = "ktransfer.json"
_PROBLEMS = {"single_label": "single_label_classification", "multi_label": "multi_label_classification"}
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
_OTHERS = {"pooled_dense": "bert.pooler.dense", "logits": "classifier"}
_KINDS = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def write(
    serving: Serving, path: Path, *, fixed: dict[str, int], extra: Mapping[str, Any] | None = None
) -> None:
    """Write a folder that `transformers.AutoModelForSequenceClassification` loads, which gives logits.

    Args:
        serving: `Serving` of texts, of BERT's architecture.
        path: The folder to write.
        fixed: Sizes of axes by name; none.
        extra: JSON-able facts, written to `ktransfer.json` next to the files of Hugging Face.

    Raises:
        ExportError: There is no such classifier of the backbone, or of the task.

    Example:

        write(serving, Path("transformers"), fixed={})
        transformers.AutoModelForSequenceClassification.from_pretrained("transformers").config.id2label
    """
    if serving.task.name not in _PROBLEMS:
        raise ExportError(
            f"Expected single-label or multi-label classification for transformers, got {serving.task.title}. Export "
            "another format."
        )
    path.mkdir(exist_ok=True)
    facts = serving.modality.hub_facts(serving, path)
    task = serving.modality.hub_model(serving)
    backbone = task.backbone
    save_file(dict(_named(task)), path / "model.safetensors", metadata={"format": "pt"})
    labels = dict(enumerate(serving.class_names))
    config = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "vocab_size": backbone.vocabulary_size,
        "hidden_size": backbone.hidden_dim,
        "num_hidden_layers": backbone.num_layers,
        "num_attention_heads": backbone.num_heads,
        "intermediate_size": backbone.intermediate_dim,
        "max_position_embeddings": backbone.max_sequence_length,
        "type_vocab_size": backbone.num_segments,
        "hidden_act": "gelu_pytorch_tanh",  # keras-hub's, whatever the checkpoint had that it was made of
        "hidden_dropout_prob": backbone.dropout,
        "attention_probs_dropout_prob": backbone.dropout,
        "layer_norm_eps": backbone.get_layer("embeddings_layer_norm").epsilon,
        "pad_token_id": facts["pad_token_id"],
        "id2label": labels,
        "label2id": {label: index for index, label in labels.items()},
        "problem_type": _PROBLEMS[serving.task.name],
        "torch_dtype": "float32",
    }
    write_json(path / "config.json", config)
    write_json(
        path / FACTS,
        {"labels": serving.class_names, **(extra or {}), "temperature": serving.temperature, **facts},
    )


def _named(task: Any) -> Iterator[tuple[str, Array]]:
    """The weights of keras-hub's `BertTextClassifier` by Hugging Face's names."""
    for weight in task.weights:
        path, value = weight.path, np.asarray(weight, np.float32)
        if path in _EMBEDDINGS:
            yield f"bert.embeddings.{_EMBEDDINGS[path]}", value
            continue
        place, _, kind = path.rpartition("/")
        first, _, rest = place.partition("/")
        if place in _OTHERS:
            name = _OTHERS[place]
        elif first.startswith("transformer_layer_") and rest in _LAYER:
            name = f"bert.encoder.layer.{first.rpartition('_')[2]}.{_LAYER[rest]}"
        else:
            raise ExportError(
                f"Expected the weights of keras-hub's BertTextClassifier, got {path}. Use keras-hub 0.32."
            )
        if kind == "kernel":  # attention's have an axis for the heads
            rows = value.shape[0] * value.shape[1] if place.endswith("attention_output") else value.shape[0]
            value = value.reshape(rows, -1).T
        elif value.ndim > 1:
            value = value.reshape(-1)
        yield f"{name}.{_KINDS[kind]}", np.ascontiguousarray(value)
