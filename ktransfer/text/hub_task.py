"""A text classifier as keras-hub's own task, with its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import keras_hub
import numpy as np

from ktransfer.errors import ExportError
from ktransfer.models.averaging import averaging_layer, transformer_layers
from ktransfer.models.heads import Head
from ktransfer.models.locate import find_backbone
from ktransfer.text.tokenizer_json import load_tokenizer, write_tokenizer
from ktransfer.utils.files import write_json

if TYPE_CHECKING:
    import keras

    from ktransfer.exporting.serving import Serving
    from ktransfer.text.preprocessing import TextPreprocessing
    from ktransfer.text.serving import Texts

# What transformers calls the architecture of a backbone with this tokenizer.
_ARCHITECTURES = {
    keras_hub.tokenizers.BertTokenizer: "bert",
    keras_hub.tokenizers.DistilBertTokenizer: "distilbert",
    keras_hub.tokenizers.ElectraTokenizer: "electra",
    keras_hub.tokenizers.RobertaTokenizer: "roberta",
    keras_hub.tokenizers.XLMRobertaTokenizer: "xlm-roberta",
}
_HF_INPUTS = {"token_ids": "input_ids", "padding_mask": "attention_mask", "segment_ids": "token_type_ids"}


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
    kernel, bias = (each / serving.temperature for each in Head.of(serving.model).folded())
    weights, pooled, read = averaging_layer(transformer_layers(encoder)[-1], kernel, bias)
    backbone = _with_one_layer_more(encoder)
    backbone.get_layer(f"transformer_layer_{backbone.num_layers - 1}").set_weights(weights)
    backbone.get_layer("pooled_dense").set_weights([pooled, np.zeros(len(pooled), "float32")])
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(
        preprocessing.tokenizer, sequence_length=preprocessing.sequence_length
    )
    task = keras_hub.models.BertTextClassifier(backbone, len(bias), preprocessor=preprocessor, dropout=0.0)
    task.get_layer("logits").set_weights([read, np.zeros(len(bias), "float32")])
    return task


def write_hub_tokenizer(serving: Serving, folder: Path) -> dict[str, Any]:
    """Write `tokenizer.json` and `tokenizer_config.json`, by which transformers makes the ids of the run.

    Returns:
        As `write_tokenizer`, and as `architecture` what transformers calls that of the backbone.

    Raises:
        ExportError: An example has two texts, transformers has no such backbone, or the tokenizer cannot be written so.

    Example:

        write_hub_tokenizer(serving, Path("spam"))["architecture"]   # "distilbert"
    """
    preprocessing = cast("TextPreprocessing", serving.preprocessing)
    if len(preprocessing.text_names) > 1:
        raise ExportError(
            "Expected one text an example for transformers, got pairs of texts, which its tokenizers cut otherwise. "
            "Export onnx."
        )
    architecture = _architecture(find_backbone(serving.model), preprocessing)
    if prefix := getattr(preprocessing, "word_prefix", ""):
        raise ExportError(
            "Expected a tokenizer that reads a word alone as in a text for named entities in transformers, got "
            f"{type(preprocessing.tokenizer).__name__}, which reads it after {prefix!r}. Export onnx."
        )
    texts = cast("Texts", serving.examples).texts
    facts = write_tokenizer(preprocessing.as_tokenizer(), folder, texts=preprocessing.encoded(texts))
    tokenizer = load_tokenizer(folder / facts["path"])
    names = {
        name: tokenizer.id_to_token(int(facts[key]))
        for name, key in (
            ("cls_token", "start_token_id"),
            ("sep_token", "end_token_id"),
            ("pad_token", "pad_token_id"),
        )
    }
    if unknown := getattr(preprocessing.tokenizer, "oov_token", None):
        names["unk_token"] = unknown
    # Elsewhere a text that spells a special token is a text, as in training.
    byte_pairs = isinstance(preprocessing.tokenizer, keras_hub.tokenizers.BytePairTokenizer)
    spelt = getattr(preprocessing.tokenizer, "special_tokens_in_strings", byte_pairs)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": preprocessing.sequence_length,
        "model_input_names": [_HF_INPUTS[name] for name in preprocessing.inputs],
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": not spelt,
        **names,
    }
    write_json(folder / "tokenizer_config.json", config)
    return {**facts, "architecture": architecture}


def _architecture(encoder: keras.Model, preprocessing: TextPreprocessing) -> str:
    """The name of an encoder's architecture in transformers."""
    # Of the very class: RoFormer-v2's is one of BERT's.
    found = _ARCHITECTURES.get(type(preprocessing.tokenizer))
    if found is None or "transformer_layer_0" not in {layer.name for layer in encoder.layers}:
        raise ExportError(
            "Expected a backbone of BERT, DistilBERT, ELECTRA, RoBERTa or XLM-RoBERTa for transformers, got "
            f"{encoder.name} with {type(preprocessing.tokenizer).__name__}. Export another format."
        )
    return found


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
