"""transformers: a folder that Hugging Face's `AutoModelForSequenceClassification`, or that of tokens, loads."""

from ktransfer.exporting.registry import Format

FACTS = "ktransfer.json"  # here, as PyTorch may crash in a process that imports the exporter, and with it TensorFlow

FORMAT = Format(
    name="transformers",
    file="transformers",
    exporter="ktransfer.exporting.hf.exporter",
    runtime="ktransfer.exporting.hf.runtime",
    default=False,
    program="",
    output="logits",
    converts=False,
    takes_raw=lambda options: True,
    modules=("safetensors", "torch", "transformers"),
)
