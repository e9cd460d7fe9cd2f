"""`ktransfer export`."""

from ktransfer.cli.options import FORMATS, Format, RunFolder
from ktransfer.terminal import quiet_imports


def export(run: RunFolder, format: Format = None):
    """Write a run as SavedModel, TFLite and ONNX, or smaller; verify that each answers as the model does."""
    with quiet_imports():
        from ktransfer.jobs.export import export as export_run
        from ktransfer.run import Run
    export_run(Run.load(run), tuple(format or FORMATS))
