"""`ktransfer export`."""

from typing import Annotated

import typer

from ktransfer.cli.options import Format, RunFolder
from ktransfer.exporting.formats import FORMATS, format_names
from ktransfer.utils.terminal import print_line, quiet_imports


def export(
    run: RunFolder,
    format: Format = None,
    dynamic_batch: Annotated[
        bool,
        typer.Option(
            "--dynamic-batch", help="Let TFLite files take any number of examples at once, not one."
        ),
    ] = False,
    any_size: Annotated[
        bool, typer.Option("--any-size", help="Let ONNX files take images of any size, which they resize.")
    ] = False,
    uint8: Annotated[bool, typer.Option("--uint8", help="Take images in uint8, not float32.")] = False,
    allow_flex: Annotated[
        bool,
        typer.Option(
            "--allow-flex",
            help="Allow operations of TensorFlow in TFLite files where needed; an app then needs the "
            "Flex delegate.",
        ),
    ] = False,
    client: Annotated[
        str | None,
        typer.Option(
            "--client",
            help="Write TFLite files with the metadata that a library reads, and refuse what it would answer "
            "otherwise: mediapipe.",
        ),
    ] = None,
    min_runtime: Annotated[
        str | None,
        typer.Option(
            "--min-runtime",
            help="The TensorFlow Lite that phones have, such as 2.9: write older operators in tflite-dynamic, and "
            "refuse TFLite files that need a later one.",
        ),
    ] = None,
    strings: Annotated[
        bool,
        typer.Option(
            "--strings",
            help="Write onnx-strings as well, ONNX that takes a text, its tokenizer in the graph (extra `strings`).",
        ),
    ] = False,
    calibrated: Annotated[
        bool, typer.Option("--calibrated", help="Apply the temperature that was fitted on validation.")
    ] = False,
) -> None:
    """Write a run as SavedModel, TFLite and ONNX, or smaller; verify that each answers as the model does."""
    # Here, as `--help` needs none of them.
    from ktransfer.commands.checks import check_backend, check_run, check_temperature
    from ktransfer.core.modality import modality_of_manifest
    from ktransfer.exporting.options import ExportOptions

    formats = format_names([*(format or FORMATS), *(["onnx-strings"] if strings else [])])
    manifest = check_run(run)
    check_backend()
    temperature = check_temperature(manifest, run) if calibrated else 1.0
    options = ExportOptions(
        dynamic_batch=dynamic_batch,
        any_size=any_size,
        uint8=uint8,
        allow_flex=allow_flex,
        temperature=temperature,
        client=client,
        min_runtime=min_runtime,
    )
    options.check(formats, modality_of_manifest(manifest).task)
    with quiet_imports():
        from ktransfer.commands.export import export as export_run
        from ktransfer.runs.run import Run
    try:
        export_run(Run.load(run), formats, options=options)
    except KeyboardInterrupt:
        print_line("ktransfer: interrupted; what was exported before is as it was.", stderr=True)
        raise
