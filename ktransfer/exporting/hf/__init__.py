"""transformers: a folder that Hugging Face's `AutoModelForSequenceClassification` loads."""

from ktransfer.exporting.registry import Format

FORMAT = Format(
    name="transformers",
    file="transformers",
    exporter="ktransfer.exporting.hf.exporter",
    runtime="ktransfer.exporting.hf.runtime",
    default=False,
    program=False,
    output="logits",
    converts=False,
    takes_raw=lambda options: True,
    modules=("safetensors", "torch", "transformers"),
)
