"""A text classifier as keras-hub's own task, with its tokenizer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import keras_hub
import numpy as np

from ktransfer.errors import ExportError
from ktransfer.models.heads import Head
from ktransfer.models.locate import find_backbone

if TYPE_CHECKING:
    import keras

    from ktransfer.exporting.serving import Serving
    from ktransfer.text.preprocessing import TextPreprocessing

# The layer that averages writes logits times `_SIGNAL`, so that the first token's own vector, which a residual
# connection adds, is lost in them, and two constants of `_GROUND` times that, which fix the scale of the layer
# normalization.
_SIGNAL, _GROUND = 1e7, 1e4
_SMALL = 1e-2  # times what tanh is given, which is then the identity to float32's last digits


def text_task(serving: Serving) -> Any:
    """The `TextClassifier` of keras-hub that gives the logits of a classifier, its preprocessor attached.

    keras-hub's classifier reads the first token, and that of ktransfer the average of all. So the network gets one more
    transformer layer, which computes no more than that: with queries of zero its attention is the average over all
    tokens but padding. Numbers of float32 are needed for it, and fine-tuning further starts better from the backbone.

    Raises:
        ExportError: The backbone is not of BERT's architecture, or has too few features for so many classes.

    Example:

        text_task(serving).save_to_preset("spam")
    """
    preprocessing = cast("TextPreprocessing", serving.preprocessing)
    encoder = find_backbone(serving.model)
    _require_bert(encoder, preprocessing)
    kernel, bias = Head.of(serving.model).folded()
    features, classes = kernel.shape
    if 2 * classes + 2 > features:
        raise ExportError(
            f"Expected at most {features // 2 - 1} classes of a backbone with {features} features for keras-hub, got "
            f"{classes}. Export another format."
        )
    backbone = _with_one_layer_more(encoder)
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(
        preprocessing.tokenizer, sequence_length=preprocessing.sequence_length
    )
    task = keras_hub.models.BertTextClassifier(backbone, classes, preprocessor=preprocessor, dropout=0.0)
    scale = _average(backbone, kernel / serving.temperature, bias / serving.temperature)
    read = np.zeros((features, classes), "float32")
    read[range(classes), range(classes)] = 0.5 * scale
    read[range(classes, 2 * classes), range(classes)] = -0.5 * scale
    task.get_layer("logits").set_weights([read, np.zeros(classes, "float32")])
    return task


def _require_bert(encoder: keras.Model, preprocessing: TextPreprocessing) -> None:
    names = {layer.name for layer in encoder.layers}
    bert = isinstance(preprocessing.tokenizer, keras_hub.tokenizers.BertTokenizer)
    if len(preprocessing.text_names) > 1:
        raise ExportError(
            "Expected one text an example for keras-hub, got pairs of texts. Export another format."
        )
    if preprocessing.client is not None:
        raise ExportError(
            "Expected a run that reads texts as its backbone does for keras-hub, whose preprocessor has no other way, "
            f"got one of --client {preprocessing.client}. Train without it, or export another format."
        )
    if not bert or not {"segment_embedding", "position_embedding", "transformer_layer_0"} <= names:
        raise ExportError(
            f"Expected a backbone of BERT's architecture, whose classifier of keras-hub can be given the average of "
            f"the tokens, got {encoder.name} with {type(preprocessing.tokenizer).__name__}. Export another format."
        )


def _with_one_layer_more(encoder: keras.Model) -> Any:
    """A `BertBackbone` with the weights of an encoder, and above them one layer more."""
    layers = {layer.name: layer for layer in encoder.layers}
    count = sum(name.startswith("transformer_layer_") for name in layers)
    first = layers["transformer_layer_0"].get_config()
    embedding = layers["token_embedding"]
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=embedding.input_dim,
        num_layers=count + 1,
        num_heads=first["num_heads"],
        hidden_dim=embedding.output_dim,
        intermediate_dim=first["intermediate_dim"],
        dropout=first["dropout"],
        max_sequence_length=layers["position_embedding"].sequence_length,
        num_segments=layers["segment_embedding"].input_dim,
        dtype="float32",
    )
    for layer in backbone.layers:
        if layer.weights and layer.name in layers:
            layer.set_weights(layers[layer.name].get_weights())
    return backbone


def _average(backbone: Any, kernel: np.ndarray, bias: np.ndarray) -> float:
    """Make the top layer and the pooling give logits times a factor, and return what undoes the factor.

    Output j of the attention is logit j of the average times `_SIGNAL`, output C + j the same negated, and two more are
    constants, as far from each other as fixes the deviation that layer normalization divides by. All outputs together
    are zero, so that it subtracts nothing.
    """
    features, classes = kernel.shape
    layer = backbone.get_layer(f"transformer_layer_{backbone.num_layers - 1}")
    ground = _SIGNAL * _GROUND
    written, constant = np.zeros((features, features)), np.zeros(features)
    written[:, :classes] = kernel * _SIGNAL
    written[:, classes : 2 * classes] = -kernel * _SIGNAL
    constant[:classes], constant[classes : 2 * classes] = bias * _SIGNAL, -bias * _SIGNAL
    constant[2 * classes : 2 * classes + 2] = ground, -ground
    heads = backbone.num_heads
    values = np.eye(features).reshape(features, heads, features // heads)
    made = {
        "value/kernel": values,
        "attention_output/kernel": written.reshape(heads, features // heads, features),
        "attention_output/bias": constant,
    }
    weights = []
    for weight in layer.weights:
        name = "/".join(weight.path.split("/")[-2:])
        value = made.pop(name, None)
        if value is None:
            value = np.ones(weight.shape) if name.endswith("gamma") else np.zeros(weight.shape)
        weights.append(value.astype("float32"))
    if made:
        raise ExportError(
            f"Expected attention with {', '.join(made)} in {layer.name}, got other weights. Use keras-hub 0.32."
        )
    layer.set_weights(weights)
    pooled = np.eye(features) * _SMALL
    backbone.get_layer("pooled_dense").set_weights([pooled.astype("float32"), np.zeros(features, "float32")])
    return _GROUND * math.sqrt(2 / features) / _SMALL
