"""Ids -> backbone -> one vector a text -> standardised features -> logits, in one model."""

import keras
import numpy as np
from keras import ops

from ktransfer.errors import BackboneError
from ktransfer.models.heads import POOLED, add_head
from ktransfer.text.preprocessing import TextPreprocessing


def build_text_classifier(
    backbone: keras.Model,
    num_classes: int,
    preprocessing: TextPreprocessing,
    *,
    dropout: float = 0.0,
    seed: int = 0,
    per_token: bool = False,
) -> keras.Model:
    """Put a classification head on a text backbone.

    An encoder's tokens are averaged, padding left out (Reimers and Gurevych 2019, section 3). Where each
    token sees only those before it, as in GPT-2, the last real one is taken (Radford et al. 2018, section
    3.2). Without a padding mask the first token is, which padding does not displace.

    Args:
        backbone: Functional, ids to a vector for each token `(B, L, C)`, by itself or as `sequence_output`.
        num_classes: At least 2.
        preprocessing: From `load_text_preprocessing`, for the names of the inputs.
        dropout: Share of features dropped before the last layer, in training.
        seed: Of the last layer's weights and the dropout.
        per_token: Whether each token gets logits of its own, by the same head. Defaults to `False`.

    Returns:
        A functional model, a dict of int32 ids `(B, L)` -> float32 logits `(B, num_classes)`, of tokens
        `(B, L, num_classes)`.

    Raises:
        BackboneError: The backbone gives no vector for each token.

    Example:

        backbone = load_text_backbone("bert_tiny_en_uncased")
        preprocessing = load_text_preprocessing("bert_tiny_en_uncased", backbone)
        model = build_text_classifier(backbone, 2, preprocessing)
    """
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in preprocessing.inputs}
    outputs = backbone.output
    vectors = outputs.get("sequence_output") if isinstance(outputs, dict) else outputs
    if len(getattr(vectors, "shape", ())) != 3:
        raise BackboneError(
            "Expected a backbone that gives a vector for each token, (batch, tokens, features), got "
            f"{backbone.name}, which gives {keras.tree.map_structure(lambda t: t.shape, outputs)}. "
            "Choose another backbone."
        )
    encoder = backbone
    if isinstance(outputs, dict):
        # Without the layer that BERT has for its first token, which nothing here would train or use.
        encoder = keras.Model(backbone.input, vectors, name=backbone.name)
    tokens = keras.layers.Identity(name="features")(encoder(inputs))
    if per_token:
        pooled = keras.layers.Identity(dtype="float32", name=POOLED)(tokens)
    elif "padding_mask" not in inputs:
        pooled = keras.layers.Identity(dtype="float32", name=POOLED)(tokens[:, 0])
    else:
        mask = inputs["padding_mask"]
        if looks_back_only(backbone, preprocessing):
            # 1 at the last real token: there the mask ends, or the batch does.
            mask = mask - ops.pad(mask[:, 1:], [(0, 0), (0, 1)])
        pooled = keras.layers.GlobalAveragePooling1D(dtype="float32", name=POOLED)(tokens, mask=mask)
    return keras.Model(inputs, add_head(pooled, num_classes, dropout, seed), name="classifier")


def looks_back_only(backbone: keras.Model, preprocessing: TextPreprocessing) -> bool:
    """Whether a token's vector depends on those before it, and on none after it: measured, whatever the family is.

    Example:

        looks_back_only(backbone, preprocessing)   # True of GPT-2
    """
    start = preprocessing.tokenizer.start_token_id

    def vectors(*tokens: int) -> np.ndarray:
        outputs = backbone(preprocessing.pack([np.array([start, *tokens], np.int32)], 3), training=False)
        outputs = outputs["sequence_output"] if isinstance(outputs, dict) else outputs
        return ops.convert_to_numpy(outputs)

    before, after = vectors(0, 0), vectors(0, 1)
    if not np.allclose(before[:, 0], after[:, 0], atol=1e-4):
        return False
    # Of the lowest blocks alone, below any attention, each vector depends on its own token.
    return not np.allclose(before[:, 2], vectors(1, 0)[:, 2], rtol=0, atol=1e-6)
