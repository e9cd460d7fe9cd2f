"""Options of an artifact's inputs and outputs beyond its format."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ktransfer.core.clients import CLIENTS
from ktransfer.core.modality import modality_of_task
from ktransfer.errors import ExportError
from ktransfer.exporting.registry import get_format
from ktransfer.exporting.versions import version_number


@dataclass(frozen=True)
class ExportOptions:
    """Options of an artifact. A format to which an option does not apply ignores it.

    Args:
        dynamic_batch: TFLite takes any number of examples at once, not one. SavedModel and ONNX always do.
        any_size: ONNX takes images of any height and width and resizes them as the run does.
        uint8: Images are taken in uint8, not float32, still in 0-255.
        allow_flex: TFLite may have operations of TensorFlow itself (Flex) where a file without them cannot be
            had. An app then needs the Flex delegate as well as LiteRT; the artifact names them.
        temperature: What logits are divided by before softmax, so that probabilities are as often right as
            they say (Guo et al. 2017, "On Calibration of Modern Neural Networks").
        client: One of `CLIENTS`: TFLite files have what that library reads, and are refused where it would not answer
            as the run does. Texts are then of the run's sequence length. Defaults to `None`.
        min_runtime: The version of TensorFlow Lite that phones have, such as `"2.9"`: dense layers of `tflite-dynamic`
            get one scale each where needed, and a TFLite file that needs a later one all the same is refused, with its
            operators. Defaults to `None`.

    Raises:
        ExportError: The temperature is not above 0, or there is no such client or no such version.

    Example:
        >>> ExportOptions(any_size=True).any_size
        True
    """

    dynamic_batch: bool = False
    any_size: bool = False
    uint8: bool = False
    allow_flex: bool = False
    temperature: float = 1.0
    client: str | None = None
    min_runtime: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ExportError(
                f"Expected a temperature above 0, got {self.temperature}. Leave it out, or fit it on "
                "validation examples."
            )
        if self.client not in (None, *CLIENTS):
            raise ExportError(
                f"Expected {' or '.join(CLIENTS)} for --client (client), got {self.client!r:.80}. Pass that, or "
                "leave it out."
            )
        if self.min_runtime is not None:
            version_number(self.min_runtime)
        if self.client and (self.dynamic_batch or self.allow_flex):
            other = "--dynamic-batch" if self.dynamic_batch else "--allow-flex"
            raise ExportError(
                f"Expected one example at a time and builtin operations with --client {self.client}, got {other}. "
                "Leave one of them out."
            )

    def attempts(
        self, attempts: Sequence[dict[str, int]], format: str
    ) -> list[tuple[dict[str, int], dict[str, bool]]]:
        """Return each of `Serving.attempts` with the converter's Flex setting, in order.

        First nothing, then that it is allowed, if it is. A batch that was asked to be dynamic is rather had
        with Flex than not at all.

        Example:
            >>> ExportOptions(allow_flex=True).attempts([{"batch": 1}], "tflite")
            [({'batch': 1}, {}), ({'batch': 1}, {'allow_flex': True})]
        """
        # int8 is calibrated by an interpreter that has no Flex.
        spec = get_format(format)
        allowed = self.allow_flex and "allow_flex" in spec.family.options and not spec.needs_calibration
        pairs = [(fixed, flex) for flex in [{}, {"allow_flex": True}][: 1 + allowed] for fixed in attempts]
        return sorted(pairs, key=lambda pair: self.dynamic_batch and "batch" in pair[0])

    def check(self, formats: Iterable[str], task: str | None) -> None:
        """Raise `ExportError` if an option is for none of `formats`, or not for the task.

        Args:
            formats: Of `ALL_FORMATS`.
            task: `"image-classification"` or `"text-classification"`.
        """
        offered = modality_of_task(task).export_options
        known = {
            option
            for name in formats
            for option in get_format(name).family.options
            if option != "any_size" or not get_format(name).is_quantized
        }
        for option, given, fits, wanted in (
            ("dynamic_batch", self.dynamic_batch, "dynamic_batch" in known, "a TFLite format"),
            ("allow_flex", self.allow_flex, "allow_flex" in known, "a TFLite format"),
            (
                "any_size",
                self.any_size,
                "any_size" in offered and "any_size" in known,
                "images and the format onnx",
            ),
            ("uint8", self.uint8, "uint8" in offered, "images"),
            ("client", self.client, "client" in known, "a TFLite format"),
            ("min_runtime", self.min_runtime, "min_runtime" in known, "a TFLite format"),
        ):
            if given and not fits:
                raise ExportError(
                    f"Expected {wanted} with --{option.replace('_', '-')} ({option}), got {task} as "
                    f"{', '.join(formats)}. Leave it out."
                )
