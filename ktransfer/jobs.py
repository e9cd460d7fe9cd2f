"""The verbs of the command line as functions: train, evaluate, export."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from ktransfer.backbones import load_backbone
from ktransfer.classifier import build_classifier
from ktransfer.data.checks import require_readable
from ktransfer.data.examples import Examples, Splits
from ktransfer.data.images import load_image
from ktransfer.data.pipeline import image_dataset
from ktransfer.data.sources import load_splits, read_data
from ktransfer.errors import RunError
from ktransfer.evaluation import Evaluation
from ktransfer.evaluation import evaluate as judge
from ktransfer.exporters import FORMATS, Artefact, export_model
from ktransfer.files import write_json
from ktransfer.freezing import find_blocks
from ktransfer.head import extract_features, solve_head, standardise_features
from ktransfer.recipe import Recipe, image_recipe
from ktransfer.run import Run
from ktransfer.training import fine_tune

PARITY_IMAGES = 100

Say = Callable[[str], None]


def train(
    data: str | Path,
    backbone: str,
    out: str | Path,
    *,
    validation: str | Path | None = None,
    validation_fraction: float = 0.2,
    data_dir: str | Path | None = None,
    image_size: int | tuple[int, int] | None = None,
    scaling: str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    random_weights: bool = False,
    skip_corrupt: bool = False,
    overwrite: bool = False,
    formats: Sequence[str] = FORMATS,
    say: Say = print,
    verbose: int | str = 1,
) -> Run:
    """Train a classifier on labelled images, evaluate it, export it, and keep all of it in a run folder.

    Args:
        data: A folder of class folders, one that holds `train/` (and `val/`, `test/`), or `tfds:NAME`.
        backbone: As in `load_backbone`.
        out: The run folder to make.
        validation: A folder of class folders to validate on instead of a part of `data`.
        validation_fraction: The share of each class to hold out where there is no validation part.
        data_dir: Where TensorFlow Datasets keeps its data.
        image_size: Pixels; `None` takes the preset's own.
        scaling: As in `load_backbone`, for a `.keras` file.
        epochs: Of fine-tuning; `None` takes the recipe's. 0 keeps the solved head.
        seed: Of everything random.
        recipe: How to train; `None` takes `image_recipe` for these facts.
        random_weights: Start from a random backbone, to see what the pretrained one is worth.
        skip_corrupt: Leave out images that cannot be read.
        overwrite: Replace a run that lies at `out`.
        formats: What to export, of `FORMATS`.
        say: Where lines for a person go.
        verbose: Of Keras' progress, as in `keras.Model.fit`.

    Returns:
        The `Run`.

    Raises:
        KTransferError: The data, the backbone, the recipe or the folder will not do; the message says how
            to mend it. What was trained until then is in the run folder.

    Example:

        run = ktransfer.train("flowers", "resnet_50_imagenet", "runs/flowers", image_size=160)
    """
    Run.check_free(out, overwrite=overwrite)
    keras.utils.set_random_seed(seed)
    splits = load_splits(
        data, validation=validation, validation_fraction=validation_fraction, seed=seed, data_dir=data_dir
    )
    splits = _readable(splits, skip_corrupt)
    counts = {name: len(part) for name, part in _parts(splits)}
    say(
        f"data      {', '.join(f'{n} {name}' for name, n in counts.items())}; {len(splits.train.class_names)} classes"
    )

    if recipe is None:
        gpu = bool(keras.distribution.list_devices("gpu"))
        recipe = image_recipe(images=len(splits.train), gpu=gpu, epochs=epochs, seed=seed)
    network, preprocessing = load_backbone(
        backbone, image_size=image_size, scaling=scaling, load_weights=not random_weights
    )
    model = build_classifier(
        network, len(splits.train.class_names), preprocessing, dropout=recipe.dropout, seed=seed
    )
    say(
        f"backbone  {network.name}, {network.count_params():,} parameters in {len(find_blocks(network))} blocks; "
        f"images of {preprocessing.resize.height} x {preprocessing.resize.width}"
    )
    run = Run.create(
        out,
        {
            "status": "training",
            "task": "image-classification",
            "labels": list(splits.train.class_names),
            "preprocessing": preprocessing.to_dict(),
            "backbone": {
                "name": str(backbone),
                "layer": network.name,
                "parameters": network.count_params(),
                "random_weights": random_weights,
            },
            "recipe": dataclasses.asdict(recipe),
            "data": {
                "source": _absolute(data),
                "validation": validation and _absolute(validation),
                "validation_fraction": validation_fraction,
                "data_dir": data_dir and _absolute(data_dir),
                "skip_corrupt": skip_corrupt,
                "examples": counts,
                "fingerprint": {name: part.fingerprint() for name, part in _parts(splits)},
            },
        },
        overwrite=overwrite,
    )
    _fit_head(model, splits.train, run, say)
    run.save_model(model)
    return _finish(run, model, splits, formats, say, verbose)


def resume(
    out: str | Path, *, formats: Sequence[str] = FORMATS, say: Say = print, verbose: int | str = 1
) -> Run:
    """Go on with a run that was interrupted, on the same data, from its last whole epoch.

    Args:
        out: The run folder.
        formats, say, verbose: As in `train`.

    Returns:
        The finished `Run`.

    Raises:
        RunError: There is no such run, its data has changed, or it stopped before its head was trained.

    Example:

        ktransfer.resume("runs/flowers")
    """
    run = Run.load(out)
    facts = run.manifest["data"]
    keras.utils.set_random_seed(run.recipe.seed)
    splits = load_splits(
        facts["source"],
        validation=facts["validation"],
        validation_fraction=facts["validation_fraction"],
        seed=run.recipe.seed,
        data_dir=facts["data_dir"],
    )
    splits = _readable(splits, facts["skip_corrupt"])
    if {name: part.fingerprint() for name, part in _parts(splits)} != facts["fingerprint"]:
        raise RunError(
            f"The data that the run began with was expected in {facts['source']}. Received: other files. "
            "Put it back, or train a new run."
        )
    return _finish(run, run.model, splits, formats, say, verbose)


def evaluate(
    run: Run, data: str | Path, *, data_dir: str | Path | None = None, say: Say = print
) -> tuple[Evaluation, str]:
    """Judge a run's model on labelled images.

    Args:
        run: What `Run.load` gave.
        data: As in `train`; of data with parts `test` is taken, else `validation`, else all of it.
        data_dir: Where TensorFlow Datasets keeps its data.
        say: Where lines for a person go.

    Returns:
        The `Evaluation`, and the part that was judged.

    Raises:
        DataError: The data has no usable images, or a class that the run does not know.

    Example:

        evaluation, part = ktransfer.evaluate(run, "flowers")
    """
    splits = read_data(data, class_names=run.labels, data_dir=data_dir)
    part, examples = list(_parts(splits))[-1]
    say(f"data      {len(examples)} images, {part if len(list(_parts(splits))) > 1 else 'all'} of {data}")
    if examples.fingerprint() == run.manifest.get("data", {}).get("fingerprint", {}).get("train"):
        say(
            "warning   these are the images that the run was trained on; the figures say nothing about others"
        )
    return judge(run.predict_probabilities(examples.inputs), examples.labels, run.labels), part


def export(
    run: Run, formats: Sequence[str] = FORMATS, *, images: np.ndarray | None = None, say: Say = print
) -> list[Artefact]:
    """Write a run's artefacts, each proved to answer as the model does, and enter them in the manifest.

    Args:
        run: What `Run.load` or `train` gave.
        formats: Of `FORMATS`.
        images: float32 `(N, H, W, 3)` in 0-255 to prove it on; `None` takes validation images of the run.
        say: Where lines for a person go.

    Returns:
        The artefacts written now.

    Raises:
        ExportError: A format cannot be written, or does not answer as the model does.

    Example:

        ktransfer.export(Run.load("runs/flowers"), ["onnx"])
    """
    images = _parity_images(run) if images is None else images
    written = []
    for name in formats:
        artefact = export_model(
            run.model,
            run.path / "artefacts",
            name,
            class_names=run.labels,
            images=images,
            extra={"preprocessing": run.manifest["preprocessing"]},
        )
        others = [entry for entry in run.manifest.get("artefacts", []) if entry["format"] != name]
        run.update(artefacts=[*others, artefact.to_dict()])
        written.append(artefact)
        parity = artefact.parity
        say(
            f"{name:<11}{artefact.size_bytes / 2**20:6.1f} MiB  batch {artefact.batch}, "
            f"largest difference {parity.max_abs_delta:.1e}, labels agree {parity.label_agreement:.1%} "
            f"on {parity.images} images  {run.path / artefact.path}"
        )
    return written


def _parts(splits):
    for name in ("train", "validation", "test"):
        if (part := getattr(splits, name)) is not None:
            yield name, part


def _readable(splits: Splits, skip_corrupt: bool) -> Splits:
    return Splits(
        **{name: require_readable(part, skip_corrupt=skip_corrupt) for name, part in _parts(splits)}
    )


def _absolute(data):
    return str(data) if str(data).startswith("tfds:") else str(Path(data).expanduser().resolve())


def _dataset(examples: Examples, run: Run, **options):
    recipe = run.recipe
    return image_dataset(
        examples,
        resize=run.preprocessing.resize,
        batch_size=recipe.batch_size,
        one_hot=True,
        seed=recipe.seed,
        **options,
    )


def _fit_head(model, train: Examples, run: Run, say: Say):
    features, labels = extract_features(model, _dataset(train, run))
    if run.recipe.head == "solve":
        found = solve_head(model, features, labels, seed=run.recipe.seed)
        say(f"head      solved on {len(labels)} images x {features.shape[1]} features, L2 {found['l2']:.2g}")
        run.update(head=found)
    else:
        standardise_features(model, features)


def _finish(run: Run, model, splits: Splits, formats, say: Say, verbose) -> Run:
    """Everything after the head: fine-tuning, judgement, artefacts. Where it is cut off, `resume` begins."""
    run.model = model
    recipe = run.recipe
    checkpoint = run.path / "checkpoint"
    if recipe.stages and run.manifest["status"] != "trained":
        train = _dataset(splits.train, run, training=True, augmentation=recipe.augmentation)
        try:
            fine_tune(
                model,
                train,
                _dataset(splits.validation, run),
                recipe,
                callbacks=[
                    keras.callbacks.BackupAndRestore(checkpoint, double_checkpoint=True),
                    keras.callbacks.CSVLogger(
                        run.path / "history.csv", append=(run.path / "history.csv").exists()
                    ),
                ],
                verbose=verbose,
            )
        except BaseException:
            # Ctrl-C, a full disk, no memory: what was trained until here loads, and the run can go on.
            run.save_model(model)
            run.update(status="interrupted")
            raise
        run.save_model(model)
    metrics = {}
    for name, part in list(_parts(splits))[1:]:
        result = judge(run.predict_probabilities(part.inputs), part.labels, run.labels)
        metrics[name] = result.to_dict()
        say(
            f"{name:<11}accuracy {result.accuracy:.3f}, macro F1 {result.macro.f1:.3f} on {result.examples} images"
        )
    result.save_confusion(run.path / "confusion.png")
    write_json(run.path / "metrics.json", metrics)
    run.update(status="trained", metrics={name: m["accuracy"] for name, m in metrics.items()})
    if formats:
        images = np.stack([load_image(path, run.preprocessing.resize) for path in _spread(splits.validation)])
        export(run, formats, images=images.astype("float32"), say=say)
    return run


def _parity_images(run: Run) -> np.ndarray:
    facts = run.manifest["data"]
    splits = load_splits(
        facts["source"],
        validation=facts["validation"],
        validation_fraction=facts["validation_fraction"],
        seed=run.recipe.seed,
        data_dir=facts["data_dir"],
    )
    examples = _readable(splits, facts["skip_corrupt"]).validation
    return np.stack([load_image(path, run.preprocessing.resize) for path in _spread(examples)]).astype(
        "float32"
    )


def _spread(examples: Examples) -> list[str]:
    """At most `PARITY_IMAGES` of the examples, evenly over their order and so over the classes."""
    chosen = np.linspace(0, len(examples) - 1, min(len(examples), PARITY_IMAGES)).round().astype(int)
    return [examples.inputs[index] for index in chosen]
