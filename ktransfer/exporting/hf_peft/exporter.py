"""peft: low-rank matrices and the head by the names of Hugging Face's weights."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file

from ktransfer.errors import ExportError
from ktransfer.exporting.hf.exporter import write as write_transformers
from ktransfer.exporting.hf_peft import BASE, WEIGHTS
from ktransfer.models.adapters import Adapters, as_two_matrices, pretrained_kernels
from ktransfer.models.heads import Head
from ktransfer.utils.files import write_json

if TYPE_CHECKING:
    import keras

    from ktransfer.core.typing import Array
    from ktransfer.exporting.serving import Serving

CONFIG = "adapter_config.json"
_MODEL = "model.safetensors"
_CLASSIFIER = "classifier"  # of every architecture
_PREFIX = "base_model.model."  # what peft puts before the names of a model's weights


def write(
    serving: Serving, path: Path, *, fixed: dict[str, int], extra: Mapping[str, Any] | None = None
) -> None:
    """Write a folder that `peft.PeftModel.from_pretrained` loads onto the backbone in its folder `base`.

    `base/` is as the format transformers writes it, with the pretrained kernels and a head of zeros, so that it is the
    same for all runs on a backbone with as many labels. `adapter_model.safetensors` has the matrices, and what of the
    network depends on the head. Keras factors the kernel of attention for each head; as one matrix the rank of such a
    layer is as many times as high, in `rank_pattern`.

    Args:
        serving: `Serving` of texts, with adapters.
        path: The folder to write.
        fixed: Sizes of axes by name; none.
        extra: JSON-able facts, as in the format transformers.

    Raises:
        ExportError: There is no such classifier of the backbone, or of the task; or an adapted layer is none of
            Hugging Face's linear ones.

    Example:

        write(serving, Path("peft"), fixed={})
        peft.PeftModel.from_pretrained(
            transformers.AutoModelForSequenceClassification.from_pretrained("peft/base"), "peft"
        )
    """
    adapters = serving.adapters
    if adapters is None:
        raise ExportError("Expected a run with adapters for peft, got one without. Export transformers.")
    if serving.task.per_token or serving.task.least_squares:
        raise ExportError(
            f"Expected single-label or multi-label classification for peft, got {serving.task.title}. Export "
            "transformers."
        )
    path.mkdir(exist_ok=True)
    with pretrained_kernels(serving.model, adapters):
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            write_transformers(serving, Path(folder, BASE), fixed=fixed, extra=extra)
            own = load_file(Path(folder, BASE, _MODEL))
        with _head_of_zeros(serving.model):
            write_transformers(serving, path / BASE, fixed=fixed, extra=extra)
    base = load_file(path / BASE / _MODEL)
    # peft saves a classifier whole in any case; of the rest, what the head changes.
    changed = {
        name.rpartition(".")[0] for name, value in own.items() if not np.array_equal(value, base[name])
    }
    saved = [_CLASSIFIER, *sorted(name for name in changed if not f"{name}.".startswith(f"{_CLASSIFIER}."))]
    names = _names(base, adapters)
    weights: dict[str, Array] = {}
    ranks: dict[str, int] = {}
    for index, name in enumerate(names):
        a, b = as_two_matrices(serving.model, adapters, index)
        weights |= {f"{_PREFIX}{name}.lora_A.weight": a.T, f"{_PREFIX}{name}.lora_B.weight": b.T}
        ranks[name] = len(b)
    weights |= {f"{_PREFIX}{name}": value for name, value in own.items() if name.rpartition(".")[0] in saved}
    save_file(
        {name: np.ascontiguousarray(value) for name, value in weights.items()},
        path / WEIGHTS,
        metadata={"format": "pt"},
    )
    rank = max(ranks.values())
    patterns = {name: each for name, each in ranks.items() if each != rank}
    write_json(
        path / CONFIG,
        {
            "peft_type": "LORA",
            "task_type": "SEQ_CLS",
            "base_model_name_or_path": BASE,
            "r": rank,
            "lora_alpha": rank,  # the factor is in the second matrix
            "rank_pattern": patterns,
            "alpha_pattern": patterns,
            "target_modules": names,
            "modules_to_save": saved,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "use_rslora": False,
            "inference_mode": True,
        },
    )


@contextlib.contextmanager
def _head_of_zeros(model: keras.Model) -> Iterator[None]:
    head = Head.of(model)
    kernel, bias = head.weights
    head.set_weights(np.zeros_like(kernel), np.zeros_like(bias))
    try:
        yield
    finally:
        head.set_weights(kernel, bias)


def _names(base: Mapping[str, Array], adapters: Adapters) -> list[str]:
    """The modules of Hugging Face whose weights are the kernels under the adapters, found by their values."""
    by_value: dict[str, list[str]] = {}
    for name, value in base.items():
        by_value.setdefault(_digest(value), []).append(name)
    names = []
    for name, kernel, (a, _) in zip(adapters.names, adapters.kernels, adapters.matrices, strict=True):
        # A kernel of attention is one matrix, with the axis for the heads on the side of the output or of the input.
        rows = {kernel.shape[0], kernel.size // kernel.shape[-1]}
        found = {
            match
            for each in rows
            for match in by_value.get(_digest(np.ascontiguousarray(kernel.reshape(each, -1).T)), [])
        }
        if len(found) != 1 or a.ndim > 3:
            raise ExportError(
                f"Expected adapters on linear layers of Hugging Face's classifier for peft, got one on {name}, which "
                f"is none of them. Train with --targets for others, or export transformers."
            )
        names.append(found.pop().rpartition(".")[0])
    return names


def _digest(value: Array) -> str:
    return hashlib.sha256(f"{value.shape}".encode() + np.ascontiguousarray(value, "float32").data).hexdigest()
