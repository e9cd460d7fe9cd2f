"""Folders of Hugging Face, loaded by transformers on PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ktransfer.core.task import get_task
from ktransfer.errors import ExportError
from ktransfer.exporting.hf import FACTS
from ktransfer.exporting.opened import Opened, checked_labels
from ktransfer.security.safe_io import read_json

if TYPE_CHECKING:
    from ktransfer.core.typing import Array

TEXT = "text"
_NAMES = {"token_ids": "input_ids", "padding_mask": "attention_mask", "segment_ids": "token_type_ids"}


def open_file(path: Path, threads: int | None) -> Opened:
    """Load an artifact with this runtime alone, as `open_artifact` does; no code of the folder is run."""
    import torch
    import transformers

    if threads:
        torch.set_num_threads(threads)
    try:
        facts = read_json(path / FACTS)
        labels, names, task = (
            checked_labels(facts["labels"]),
            sorted(facts["inputs"]),
            get_task(facts["task"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"Expected a folder of the format transformers in {path}, got {error}. Export it again."
        ) from error
    options = {"local_files_only": True, "trust_remote_code": False}
    kind = "AutoModelForTokenClassification" if task.per_token else "AutoModelForSequenceClassification"
    model = getattr(transformers, kind).from_pretrained(str(path), use_safetensors=True, **options).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(path), **options)
    if [model.config.id2label[index] for index in range(len(labels))] != labels:
        raise ExportError(f"Expected the labels of {FACTS} in {path}, got others. Export it again.")

    def answer(given: dict[str, Array]) -> Array:
        if TEXT in given:
            texts = [
                text if isinstance(text, str) else bytes(text).decode("utf-8", "replace")
                for text in given[TEXT].tolist()
            ]
            inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        else:
            inputs = {_NAMES[name]: torch.from_numpy(array.astype(np.int64)) for name, array in given.items()}
        with torch.no_grad():
            logits = model(**inputs).logits.numpy()
        return task.probabilities(logits.astype(np.float32))

    described = [{"name": name, "shape": [None, None], "dtype": "int32"} for name in names]
    output = {"name": "logits", "shape": [None, *([None] * task.per_token), len(labels)], "dtype": "float32"}
    return Opened(labels, {"inputs": described, "output": output}, answer)
