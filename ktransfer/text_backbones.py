"""A name, a folder or a hub handle to a text backbone without a head."""

import difflib
from pathlib import Path

import keras
import keras_hub

from ktransfer.backbones import HUB_PREFIXES, load_part
from ktransfer.errors import BackboneError


def load_text_backbone(name: str, *, load_weights: bool = True, dtype: str = "float32") -> keras.Model:
    """Load a text backbone, an encoder or GPT-2, without a head.

    Args:
        name: A keras-hub preset name, a hub handle (`hf://`, `kaggle://`), or a local folder in keras-hub's
            layout or Hugging Face's (`config.json`, `model.safetensors`; needs the extra `hf`).
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
    name, known = str(name), keras_hub.models.Backbone.presets
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BackboneError(
                f"A preset folder holds config.json. Received: {name}, which does not. "
                "Write one with backbone.save_to_preset()."
            )
        name = str(folder)
    elif name not in known and not name.startswith(HUB_PREFIXES):
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"Did you mean {', '.join(near)}?" if near else "`ktransfer backbones --task text` lists them."
        raise BackboneError(
            "The name of a text preset, a hub handle or a preset folder was expected. "
            f"Received: {name!r}, which is none of these. {hint}"
        )
    return load_part(keras_hub.models.Backbone, name, "a backbone", load_weights=load_weights, dtype=dtype)
