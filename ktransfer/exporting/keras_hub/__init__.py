"""keras-hub: a preset folder, for those who fine-tune on in Keras or share the model there."""

from ktransfer.exporting.registry import Format

FORMAT = Format(
    name="keras-hub",
    file="keras_hub",
    exporter="ktransfer.exporting.keras_hub.exporter",
    runtime="ktransfer.exporting.keras_hub.runtime",
    default=False,
    output="logits",
    converts=False,
    takes_raw=lambda options: True,
    in_process=True,
)
