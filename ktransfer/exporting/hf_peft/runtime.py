"""Adapters loaded by peft onto a classifier of transformers, on PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ktransfer.core.task import get_task
from ktransfer.errors import ExportError
from ktransfer.exporting.hf import FACTS
from ktransfer.exporting.hf_peft import BASE, WEIGHTS
from ktransfer.exporting.opened import Opened, checked_labels
from ktransfer.security.safe_io import read_json

if TYPE_CHECKING:
    from ktransfer.core.typing import Array

_TEXT = "text"
_NAMES = {"token_ids": "input_ids", "padding_mask": "attention_mask", "segment_ids": "token_type_ids"}


def open_file(path: Path, threads: int | None) -> Opened:
    """Load an artifact with this runtime alone, as `open_artifact` does; no code of the folder is run."""
    import peft
    import torch
    import transformers

    if threads:
        torch.set_num_threads(threads)
    try:
        facts = read_json(path / BASE / FACTS)
        labels, names, task = (
            checked_labels(facts["labels"]),
            sorted(facts["inputs"]),
            get_task(facts["task"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"Expected a folder of the format peft in {path}, got {error}. Export it again."
        ) from error
    options = {"local_files_only": True, "trust_remote_code": False}
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        str(path / BASE), use_safetensors=True, **options
    )
    if not (path / WEIGHTS).is_file():  # without it peft would read what PyTorch pickles
        raise ExportError(f"Expected {WEIGHTS} in {path}, got a folder without it. Export it again.")
    model = peft.PeftModel.from_pretrained(base, str(path), local_files_only=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(path / BASE), **options)
    if [base.config.id2label[index] for index in range(len(labels))] != labels:
        raise ExportError(f"Expected the labels of {FACTS} in {path / BASE}, got others. Export it again.")

    def answer(given: dict[str, Array]) -> Array:
        if _TEXT in given:
            texts = [
                text if isinstance(text, str) else bytes(text).decode("utf-8", "replace")
                for text in given[_TEXT].tolist()
            ]
            inputs = dict(tokenizer(texts, padding=True, truncation=True, return_tensors="pt"))
        else:
            inputs = {_NAMES[name]: torch.from_numpy(array.astype(np.int64)) for name, array in given.items()}
        with torch.no_grad():
            logits = model(**inputs).logits.numpy()
        return task.probabilities(logits.astype(np.float32))

    described = [{"name": name, "shape": [None, None], "dtype": "int32"} for name in names]
    output = {"name": "logits", "shape": [None, len(labels)], "dtype": "float32"}
    return Opened(labels, {"inputs": described, "output": output}, answer)
