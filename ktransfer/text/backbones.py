"""Load a text backbone without a head, and its tokenizer, from a name, a folder or a hub handle."""

import dataclasses
import difflib
from pathlib import Path

import keras
import keras_hub
import numpy as np

from ktransfer.errors import BackboneError, listed
from ktransfer.models.backbone_names import HUB_PREFIXES, check_backbone_name, split_share
from ktransfer.models.blocks import sublayers
from ktransfer.models.presets import load_part
from ktransfer.models.truncation import truncated
from ktransfer.security.safe_io import read_json
from ktransfer.text.preprocessing import LONGEST, TextPreprocessing


def load_text_backbone(name: str, *, load_weights: bool = True, dtype: str = "float32") -> keras.Model:
    """Load a text backbone, an encoder or GPT-2, without a head.

    Args:
        name: A keras-hub preset name, a hub handle (`hf://`, `kaggle://`), or a local folder in keras-hub's
            layout or Hugging Face's (`config.json`, `model.safetensors`; needs the extra `hf`). With `@0.6` behind it
            only the lowest 60 % of its blocks are taken.
        load_weights: `False` gives random weights, for a comparison.
        dtype: Keras dtype policy.

    Returns:
        A functional model whose inputs are named `token_ids` and, as need be, `segment_ids` and
        `padding_mask`; its tokenizer is read by `load_text_preprocessing`.

    Raises:
        BackboneError: There is no such backbone, or it cannot be loaded.

    Example:

        backbone = load_text_backbone("bert_tiny_en_uncased")
        preprocessing = load_text_preprocessing("bert_tiny_en_uncased", backbone)
    """
    known = keras_hub.models.Backbone.presets
    check_backbone_name(str(name))
    name, share = split_share(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        name = str(folder)
    elif name not in known and not name.startswith(HUB_PREFIXES):
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"Did you mean {', '.join(near)}?" if near else "`ktransfer backbones --task text` lists them."
        raise BackboneError(
            f"Expected the name of a text preset, a hub handle or a preset folder, got {name!r}, which is "
            f"none of these. {hint}"
        )
    whole = load_part(keras_hub.models.Backbone, name, "a backbone", load_weights=load_weights, dtype=dtype)
    if share not in (None, 1.0) and isinstance(whole.output, dict) and "sequence_output" in whole.output:
        # Without the layer that BERT has for its first token, as a classifier takes it.
        encoder = keras.Model(whole.input, whole.output["sequence_output"], name=whole.name)
        encoder.max_sequence_length = getattr(whole, "max_sequence_length", None)
        whole = encoder
    return truncated(whole, share, name)


def load_text_preprocessing(
    name: str, backbone: keras.Model, *, sequence_length: int | None = None
) -> TextPreprocessing:
    """The tokenizer that a backbone was trained with.

    Args:
        name: As the backbone was loaded by: a keras-hub preset name, a hub handle, or a local folder, of
            keras-hub's layout or Hugging Face's.
        backbone: The loaded backbone; its inputs, vocabulary size and bound on the length are read off it.
        sequence_length: Tokens; None takes `LONGEST` or what the backbone takes: see
            `choose_sequence_length`.

    Raises:
        BackboneError: There is no tokenizer, the backbone does not read token ids, or the tokenizer has ids
            that the backbone's vocabulary lacks.
        RecipeError: The backbone cannot take as many tokens.

    Example:

        preprocessing = load_text_preprocessing("minilm", BertBackbone.from_preset("minilm"))
    """
    given = backbone.input if isinstance(backbone.input, dict) else {}
    if "token_ids" not in given or not {*given} <= {"token_ids", "segment_ids", "padding_mask"}:
        raise BackboneError(
            "Expected a text backbone with inputs token_ids, and segment_ids and padding_mask if need be, "
            f"got {backbone.name} with {listed(given) or 'other inputs'}. Choose another."
        )
    kind, name = keras_hub.tokenizers.Tokenizer, split_share(name)[0]
    tokenizer = load_part(kind, name, "a tokenizer")
    if isinstance(tokenizer, keras_hub.tokenizers.WordPieceTokenizer) and _takes_accents_off(name):
        tokenizer = load_part(kind, name, "a tokenizer", strip_accents=True)
    known = tokenizer.vocabulary_size()
    # A truncated backbone has it among its layers only.
    named = (layer for layer in sublayers(backbone) if layer.name == "token_embedding")
    embedding = getattr(backbone, "token_embedding", None) or next(named, None)
    size = getattr(embedding, "input_dim", None)
    if size is not None and known > size:
        raise BackboneError(
            f"Expected a tokenizer whose ids the backbone knows, {size} of them, got {known} in "
            f"{type(tokenizer).__name__} of {name!r}. Take the vocabulary that the backbone was trained with."
        )
    longest = getattr(backbone, "max_sequence_length", None)
    found = TextPreprocessing(
        tokenizer, tuple(given), sequence_length or min(longest or LONGEST, LONGEST), longest=longest
    )
    return dataclasses.replace(found, fixed_length=_feels_padding(backbone, found))


def _feels_padding(backbone: keras.Model, preprocessing: TextPreprocessing) -> bool:
    """Whether more padding changes a backbone's output; backbones with a mask ignore it."""
    if "padding_mask" in preprocessing.inputs:
        return False
    ids = [np.array([preprocessing.tokenizer.start_token_id, preprocessing.tokenizer.end_token_id])]
    outputs = [backbone(preprocessing.pack(ids, length), training=False) for length in (2, 16)]
    outputs = [output["sequence_output"] if isinstance(output, dict) else output for output in outputs]
    first, second = (keras.ops.convert_to_numpy(output)[:, 0] for output in outputs)
    return not np.allclose(first, second, atol=1e-3)


def _takes_accents_off(name: str) -> bool:
    """Whether a Hugging Face BERT folder does so: by default with lower case, unlike keras-hub."""
    path = Path(name).expanduser() / "tokenizer_config.json"
    try:
        if name.startswith("hf://"):
            from huggingface_hub import hf_hub_download

            path = Path(hf_hub_download(name.removeprefix("hf://"), path.name))
        config = read_json(path)
    except (OSError, ValueError, ImportError):
        return False
    if not isinstance(config, dict):
        return False
    accents = config.get("strip_accents")
    return bool(config.get("do_lower_case") if accents is None else accents)
