"""peft: the adapters of a run as a folder that Hugging Face's `PeftModel` loads, with their backbone."""

from ktransfer.exporting.registry import Format

BASE = "base"  # the folder with the backbone as transformers has it
WEIGHTS = "adapter_model.safetensors"

FORMAT = Format(
    name="peft",
    file="peft",
    exporter="ktransfer.exporting.hf_peft.exporter",
    runtime="ktransfer.exporting.hf_peft.runtime",
    default=False,
    program="",
    output="logits",
    converts=False,
    takes_raw=lambda options: True,
    adapters=True,
    modules=("safetensors", "torch", "transformers", "peft"),
)
