"""The command line: each verb is one call of the API and its printing; only that call imports TensorFlow."""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ktransfer import __version__
from ktransfer.errors import KTransferError, RunError
from ktransfer.files import write_json
from ktransfer.terminal import print_backbones, print_entries, print_evaluation, quiet_imports

app = typer.Typer(
    name="ktransfer",
    help="Transfer learning for Keras: from a folder of images to a classifier, and from there to "
    "SavedModel, TFLite and ONNX files that are proved to answer as it does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_FORMATS = ("savedmodel", "tflite", "onnx")

Data = Annotated[
    str, typer.Argument(help="A folder of class folders, one that holds train/ val/ test/, or tfds:NAME.")
]
RunFolder = Annotated[Path, typer.Argument(help="A run folder that `ktransfer train` wrote.")]
DataDir = Annotated[Path | None, typer.Option(help="Where TensorFlow Datasets keeps its prepared data.")]
Format = Annotated[
    list[str] | None,
    typer.Option("--format", help=f"What to export: {', '.join(_FORMATS)}; may be repeated."),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(help="Where features are kept; KTRANSFER_CACHE or ~/.cache/ktransfer if left out."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command()
def train(
    data: Annotated[
        str | None,
        typer.Argument(help="A folder of class folders, one that holds train/ val/ test/, or tfds:NAME."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="A keras-hub preset name, hf:// or kaggle:// handle, preset folder or .keras file."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder to make.")] = None,
    validation: Annotated[Path | None, typer.Option(help="A folder of class folders to validate on.")] = None,
    validation_split: Annotated[
        float, typer.Option(help="Share of each class to hold out where there is no validation data.")
    ] = 0.2,
    data_dir: DataDir = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of fine-tuning; 0 trains the head only.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the images, pixels.")] = None,
    scaling: Annotated[
        str | None,
        typer.Option(
            help="For a .keras file: how 0-255 pixels become its input: none, 0..1, -1..1, imagenet."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="Of everything random.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A recipe as JSON, instead of the default one.")] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Start from a random backbone, for comparison.")
    ] = False,
    fast_depthwise: Annotated[
        bool, typer.Option(help="Compute grouped convolutions of one channel each as depthwise ones.")
    ] = True,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Leave out images that cannot be read.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run that lies at --out.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the interrupted run at --out.")
    ] = False,
    cache: Annotated[
        bool, typer.Option(help="Run the frozen part of the backbone once and keep what it gives.")
    ] = True,
    cache_dir: CacheDir = None,
    format: Format = None,
    no_export: Annotated[bool, typer.Option("--no-export", help="Only train and evaluate.")] = False,
):
    """Train a classifier, evaluate it, export it to all formats and verify them."""
    formats = () if no_export else tuple(format or _FORMATS)
    if out is None:
        raise RunError("A run folder was expected. Received: no --out. Pass --out RUN.")
    with quiet_imports():
        from ktransfer.jobs.train import resume as resume_run
        from ktransfer.jobs.train import train as train_run
        from ktransfer.recipe import Recipe
    options = {
        "formats": formats,
        "cache": cache,
        "cache_dir": cache_dir,
        "verbose": 1 if sys.stdout.isatty() else 2,
    }
    try:
        if resume:
            if data is not None or backbone is not None:
                raise RunError(
                    "A run knows its data and its backbone. Received: --resume with others. Leave them out."
                )
            options["formats"] = formats if format or no_export else None
            run = resume_run(out, **options)
        else:
            if data is None or backbone is None:
                raise RunError(f"{'DATA' if data is None else '--backbone'} was expected. Received: none.")
            run = train_run(
                data,
                backbone,
                out,
                validation=validation,
                validation_fraction=validation_split,
                data_dir=data_dir,
                image_size=image_size,
                scaling=scaling,
                epochs=epochs,
                seed=seed,
                recipe=Recipe.from_json(recipe.read_bytes()) if recipe else None,
                random_weights=random_weights,
                fast_depthwise=fast_depthwise,
                skip_corrupt=skip_corrupt,
                overwrite=overwrite,
                **options,
            )
    except KeyboardInterrupt:
        begun = (out / "manifest.json").is_file()
        typer.echo(
            f"\nInterrupted.{f' Go on with: ktransfer train --resume --out {out}' if begun else ''}", err=True
        )
        raise typer.Exit(130) from None
    typer.echo(f"run        {run.path}")


@app.command()
def evaluate(run: RunFolder, data: Data, data_dir: DataDir = None, as_json: AsJson = False):
    """Judge a run on labelled images: accuracy, precision, recall, F1, confusion matrix."""
    with quiet_imports():
        from ktransfer.jobs.evaluate import evaluate as evaluate_run
        from ktransfer.run import Run
    loaded = Run.load(run)
    result, part = evaluate_run(
        loaded, data, data_dir=data_dir, say=lambda line: typer.echo(line, err=as_json)
    )
    values = {"data": data, "part": part, **result.to_dict()}
    write_json(run / "evaluation.json", values)
    result.save_confusion(run / "evaluation.png")
    if as_json:
        typer.echo(json.dumps(values, ensure_ascii=False))
        return
    print_evaluation(result)
    typer.echo(f"written to {run / 'evaluation.json'}, confusion matrix drawn to {run / 'evaluation.png'}")


@app.command()
def predict(
    run: RunFolder,
    files: Annotated[list[Path], typer.Argument(help="Images.")],
    top_k: Annotated[int, typer.Option(min=1, help="How many labels for each.")] = 3,
    as_json: AsJson = False,
):
    """Name what is on images: the most probable labels with their probabilities."""
    with quiet_imports():
        from ktransfer.run import Run
    for path, answers in zip(files, Run.load(run).predict(files, top_k=top_k), strict=True):
        if as_json:
            typer.echo(json.dumps({"file": str(path), "predictions": answers}, ensure_ascii=False))
        else:
            typer.echo(f"{path}: " + ", ".join(f"{a['label']} {a['probability']:.1%}" for a in answers))


@app.command()
def export(run: RunFolder, format: Format = None):
    """Write a run as SavedModel, TFLite and ONNX, and verify that each answers as the trained model does."""
    with quiet_imports():
        from ktransfer.jobs.export import export as export_run
        from ktransfer.run import Run
    export_run(Run.load(run), tuple(format or _FORMATS))


@app.command()
def backbones(
    task: Annotated[str, typer.Option(help="image or text.")] = "image",
    max_params: Annotated[str | None, typer.Option(help="Only smaller ones, e.g. 10M.")] = None,
    as_json: AsJson = False,
):
    """List the backbones that can be named, with their size; needs no network."""
    limit = _number(max_params)
    with quiet_imports():
        from ktransfer.backbones import list_backbones
    rows = list_backbones(task, max_params=limit)
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    print_backbones(rows)
    typer.echo(
        f"{len(rows)} backbones; a folder, a .keras file, hf:// and kaggle:// handles can be given as well"
    )


@app.command("cache")
def manage_cache(
    action: Annotated[str, typer.Argument(help="info or clear.")],
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
):
    """Show or remove what was kept of frozen backbones, to be used by later runs."""
    from ktransfer.feature_store import FeatureStore
    from ktransfer.files import cache_folder

    store = FeatureStore((cache_dir or cache_folder()) / "features")
    if action == "clear":
        typer.echo(f"freed {store.clear() / 2**20:.1f} MiB in {store.folder}")
        return
    if action != "info":
        raise RunError(f"info or clear was expected. Received: {action!r}.")
    entries = store.entries()
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(entry) for entry in entries]))
        return
    print_entries(entries)
    total = sum(entry.size_bytes for entry in entries) / 2**20
    typer.echo(f"{len(entries)} entries, {total:.1f} MiB in {store.folder}")


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option(help="Where to put data and runs; a new folder if left out.")
    ] = None,
):
    """Run everything on a toy task that ktransfer draws itself, with the small backbone that it ships."""
    folder = out or Path(tempfile.mkdtemp(prefix="ktransfer-demo-"))
    with quiet_imports():
        from ktransfer.demo.job import run_demo
    run_demo(folder, verbose=1 if sys.stdout.isatty() else 2)


def main():
    """The `ktransfer` command: errors that a user can mend are one line, and the exit status is 2."""
    try:
        app()
    except KTransferError as error:
        _fail(" ".join(str(error).split()))
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error))


def _fail(text):
    typer.echo(f"ktransfer: {text}", err=True)
    sys.exit(2)


def _version(wanted: bool):
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
):
    pass


def _number(text):
    if text is None:
        return None
    units = {"k": 1e3, "m": 1e6, "b": 1e9}
    try:
        return int(float(text[:-1]) * units[text[-1].lower()]) if text[-1:].lower() in units else int(text)
    except ValueError:
        raise RunError(f"A number of parameters was expected, such as 10M. Received: {text!r}.") from None
