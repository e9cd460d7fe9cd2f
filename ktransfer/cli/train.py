"""`ktransfer train`."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from ktransfer.cli.options import (
    DATA_HELP,
    CacheDir,
    Client,
    DataDir,
    Encoding,
    FileColumn,
    Format,
    GroupColumn,
    LabelColumn,
    LabelSeparator,
    TaskName,
    TextColumn,
    TextColumns,
    time_passed,
)
from ktransfer.errors import RunError
from ktransfer.exporting.formats import FORMATS, format_names
from ktransfer.recipes.adapter import ADAPTERS, LoRA
from ktransfer.utils.terminal import print_line, quiet_imports

_VALIDATION_SPLIT = 0.2  # of each class


def train(
    data: Annotated[str | None, typer.Argument(help=DATA_HELP)] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="A keras-hub preset name, hf:// or kaggle:// handle, preset folder, Hugging Face folder "
            "(texts) or .keras file (images)."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder to create.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Data of the same kind to validate on.")] = None,
    validation_split: Annotated[
        float, typer.Option(help="Share of each class to hold out where there is no validation data.")
    ] = _VALIDATION_SPLIT,
    test_split: Annotated[
        float | None,
        typer.Option(help="Share of each class to hold out first as a test split, where the data has none."),
    ] = None,
    test: Annotated[bool, typer.Option(help="Evaluate the test split; --no-test leaves it unread.")] = True,
    data_dir: DataDir = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="fast, balanced or best: training time against accuracy; balanced if left out. All but fast decide "
            "by evidence how much of the backbone is fine-tuned."
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Time for the whole command, export included, such as 90s, 10m or 1h: fewer epochs where needed.",
        ),
    ] = None,
    refit: Annotated[
        bool | None,
        typer.Option(
            help="Train once more on training and validation examples together, with the chosen settings; the metrics "
            "are then an estimate. The preset best does so with few examples."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=0, help="Epochs of fine-tuning; 0 trains the head only.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Examples in a step, of all devices together; the recipe's if left out."),
    ] = None,
    batch_size_per_device: Annotated[
        int | None,
        typer.Option(
            min=1, help="With --devices: examples in a step of each; learning rates stay the recipe's."
        ),
    ] = None,
    image_size: Annotated[int | None, typer.Option(min=1, help="Side of the images in pixels.")] = None,
    scaling: Annotated[
        str | None,
        typer.Option(
            help="For a .keras file: how 0-255 pixels become its input: none, 0..1, -1..1, imagenet."
        ),
    ] = None,
    text_column: TextColumn = None,
    text_columns: TextColumns = None,
    file_column: FileColumn = None,
    label_column: LabelColumn = None,
    label_separator: LabelSeparator = None,
    task: TaskName = None,
    target_transform: Annotated[
        str | None,
        typer.Option(help="log: train a regression on the logarithm of its target; answers keep its unit."),
    ] = None,
    group_column: GroupColumn = None,
    encoding: Encoding = None,
    sequence_length: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum length of texts in tokens; 95 of 100 fit if left out."),
    ] = None,
    client: Client = None,
    class_weight: Annotated[
        str | None, typer.Option(help="balanced: every class counts the same, independent of its size.")
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="cross_entropy or focal, which favors hard examples; for regression huber or squared_error."
        ),
    ] = None,
    text_augmentation: Annotated[
        float | None,
        typer.Option(help="Share of words to swap, delete and mistype in training texts, such as 0.1."),
    ] = None,
    quantization_aware: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="EPOCHS",
            help="Additional last epochs on a fake-quantized model, for int8 artifacts, such as 2.",
        ),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            help="lora or rslora: train low-rank adapters in place of all weights of the unfrozen blocks."
        ),
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of the adapters; 8 if left out.")] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="Adapters count alpha / rank times; once if left out. Of rslora alpha / sqrt(rank)."
        ),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            help="Layers that get an adapter: names or patterns with commas between; all if left out."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="Random seed.")] = None,
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
    exclude: Annotated[
        Path | None, typer.Option(help="Examples to leave out: the exclude.txt of `ktransfer audit --fix`.")
    ] = None,
    allow_leakage: Annotated[
        bool,
        typer.Option(
            "--allow-leakage", help="Train although validation examples are in the training data too."
        ),
    ] = False,
    unlabeled: Annotated[
        Path | None,
        typer.Option(
            "--unlabeled",
            "--unlabelled",
            help="Unlabeled texts to pretrain the backbone on first, as `ktransfer pretrain` does, into OUT-adapted.",
        ),
    ] = None,
    leave_out_leaks: Annotated[
        bool,
        typer.Option(
            "--leave-out-leaks", help="Leave unlabeled texts out that are validation or test examples too."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run at --out.")] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume the interrupted or killed run at --out with its own options. With DATA and "
            "--backbone, begin it where there is none.",
        ),
    ] = False,
    cache: Annotated[
        bool | None,
        typer.Option(help="Run the frozen part of the backbone once and cache its features; the default."),
    ] = None,
    cache_dir: CacheDir = None,
    format: Format = None,
    no_export: Annotated[bool, typer.Option("--no-export", help="Only train and evaluate.")] = False,
    devices: Annotated[
        str | None,
        typer.Option(
            metavar="all|N",
            help="Split each batch over devices, with KERAS_BACKEND=jax: all, or N of this machine. Processes that "
            "SLURM, Kubernetes or Open MPI started train one model together.",
        ),
    ] = None,
    start_seconds: Annotated[
        float, typer.Option(min=1, help="Seconds that the other processes may take to begin.")
    ] = 120,
) -> None:
    """Train a model, evaluate it, export it to all formats and verify them."""
    from ktransfer.commands.checks import (
        check_choice,
        check_data,
        check_exclusive,
        check_path,
        check_same,
    )
    from ktransfer.commands.distributed import asked_processes
    from ktransfer.core.clients import CLIENTS
    from ktransfer.core.task import task_names
    from ktransfer.recipes.default_recipes import PRESETS
    from ktransfer.recipes.time_budget import TimeBudget, parse_duration
    from ktransfer.runs.manifest import check_free, is_run, read_manifest

    if out is None:
        raise RunError("Expected a run folder, got no --out. Pass --out RUN.")
    lora = _adapter(adapter, rank, alpha, targets)
    check_exclusive({"--format": bool(format), "--no-export": no_export}, "which artifacts to write")
    check_exclusive({"--resume": resume, "--overwrite": overwrite}, "what becomes of the run at --out")
    formats = () if no_export else format_names(format or FORMATS)
    if batch_size_per_device is not None and devices is None:
        raise RunError(
            f"Expected --devices with --batch-size-per-device {batch_size_per_device}, got none. Pass --devices all, "
            "or --batch-size."
        )
    processes = asked_processes(devices)
    # Each process would measure another time, and train another number of epochs.
    check_exclusive({"--devices": processes is not None, "--budget": budget is not None}, "how long to train")
    goes_on = resume and (is_run(out) or (data is None and backbone is None))
    if goes_on:
        arguments = {
            "validation": validation,
            "validation_fraction": None if validation_split == _VALIDATION_SPLIT else validation_split,
            "test_fraction": test_split,
            "evaluate_test": None if test else False,
            "data_dir": data_dir,
            "image_size": image_size,
            "scaling": scaling,
            "text_column": text_column,
            "text_columns": text_columns,
            "file_column": file_column,
            "label_column": label_column,
            "label_separator": label_separator,
            "task": task,
            "target_transform": target_transform,
            "group_column": group_column,
            "encoding": encoding,
            "sequence_length": sequence_length,
            "client": client,
            "exclude": exclude,
            "random_weights": random_weights or None,
            "fast_depthwise": None if fast_depthwise else False,
            "skip_corrupt": skip_corrupt or None,
            "allow_leakage": allow_leakage or None,
            "preset": preset,
            "refit": refit,
        }
        check_exclusive({"--resume": True, "--budget": budget is not None}, "how long to train")
        check_exclusive({"--resume": True, "--unlabeled": unlabeled is not None}, "what to train on")
        check_path(recipe, "--recipe")
        chosen = _chosen(
            recipe, batch_size, seed, class_weight, loss, text_augmentation, quantization_aware, lora
        )
        fields = {} if chosen["recipe"] is None else dataclasses.asdict(chosen["recipe"])
        given = {name: value for name, value in chosen.items() if value is not None and name != "recipe"}
        if "augmentation" in given:
            given["augmentation"] = given["augmentation"].to_dict()
        if "adapter" in given:
            given["adapter"] = given["adapter"].to_dict()
        fields |= given | {"epochs": epochs}
        check_same(read_manifest(out), arguments, json.loads(json.dumps(fields)))
    else:
        check_exclusive({"--recipe": recipe is not None, "--epochs": epochs is not None}, "how long to train")
        check_exclusive({"--recipe": recipe is not None, "--preset": preset is not None}, "how to train")
        check_exclusive({"--recipe": recipe is not None, "--budget": budget is not None}, "how long to train")
        check_exclusive({"--budget": budget is not None, "--refit": refit is True}, "how long to train")
        check_choice(preset, PRESETS, "--preset")
        check_choice(target_transform, ("log",), "--target-transform")
        check_choice(task, task_names(), "--task")
        check_choice(client, CLIENTS, "--client")
        if budget is not None:
            TimeBudget(parse_duration(budget) - time_passed(), formats=len(formats))
        check_path(recipe, "--recipe")
        chosen = _chosen(
            recipe, batch_size, seed, class_weight, loss, text_augmentation, quantization_aware, lora
        )
        columns: dict[str, Any] = {
            "text_column": text_column,
            "text_columns": text_columns,
            "file_column": file_column,
            "label_column": label_column,
            "label_separator": label_separator,
            "task": task,
            "group_column": group_column,
            "encoding": encoding,
        }
        of_modality: dict[str, Any] = {
            "image_size": image_size,
            "scaling": scaling,
            "skip_corrupt": skip_corrupt,
            **columns,
        }
        of_modality |= {
            "client": client,
            "sequence_length": sequence_length,
            "text_augmentation": text_augmentation,
        }
        _check_data(
            data,
            validation,
            {"validation": validation_split, "test": test_split},
            data_dir,
            exclude,
            encoding,
        )
        _check_backbone(cast("str", data), backbone, scaling, of_modality)
        if unlabeled is None and leave_out_leaks:
            raise RunError(
                "Expected --unlabeled with --leave-out-leaks, got none. Pass the texts, or leave it out."
            )
        if unlabeled is not None:
            check_exclusive({"--unlabeled": True, "--devices": devices is not None}, "what to train on first")
            check_data(unlabeled)
        if processes is None or processes.index == 0:  # which makes it while others begin
            check_free(out, overwrite=overwrite)
    with quiet_imports():
        from ktransfer.commands.distributed import export_by_tensorflow, own_folder
        from ktransfer.commands.train import resume as resume_run
        from ktransfer.commands.train import train as train_run
        from ktransfer.training.distribution import batch_of_all, start
    options: dict[str, Any] = {
        "formats": formats,
        "cache_dir": cache_dir,
        "verbose": 1 if sys.stdout.isatty() else 2,
    }
    elsewhere = (os.environ.get("KERAS_BACKEND") or "tensorflow") != "tensorflow"
    is_writer = processes is None or processes.index == 0
    if elsewhere or not is_writer:
        options["formats"] = ()
    if not is_writer:
        options |= {"verbose": 0, "say": _keep_silent}
    try:
        with own_folder(out, processes, resumes=goes_on) as folder:
            if devices is not None:
                for line in start(devices, seconds=start_seconds):
                    print_line(line, stderr=not is_writer)
            if batch_size_per_device is not None:
                total, line = batch_of_all(batch_size_per_device, batch_size)
                print_line(line, stderr=not is_writer)
                if goes_on:
                    check_same(read_manifest(folder), {}, {"batch_size": total})
                chosen["batch_size"] = total
            if goes_on:
                if not elsewhere:
                    options["formats"] = formats if format or no_export else None
                run = resume_run(folder, data=data, backbone=backbone, cache=cache, **options)
            else:
                reading: dict[str, Any] = {
                    "validation": validation,
                    "validation_fraction": validation_split,
                    "test_fraction": test_split,
                    "evaluate_test": test,
                    "data_dir": data_dir,
                    **columns,
                    "sequence_length": sequence_length,
                    "client": client,
                    "exclude": exclude,
                    "random_weights": random_weights,
                    "budget": None if budget is None else max(1.0, parse_duration(budget) - time_passed()),
                }
                if unlabeled is not None:
                    backbone = _adapted(
                        unlabeled,
                        cast("str", data),
                        cast("str", backbone),
                        folder,
                        reading,
                        chosen,
                        leave_out_leaks,
                        overwrite,
                    )
                    if budget is not None:
                        reading["budget"] = max(1.0, parse_duration(budget) - time_passed())
                run = train_run(
                    cast("str", data),  # both were checked
                    cast("str", backbone),
                    folder,
                    image_size=image_size,
                    scaling=scaling,
                    **reading,
                    target_transform=target_transform,
                    preset=preset,
                    refit=refit,
                    epochs=epochs,
                    **chosen,
                    fast_depthwise=fast_depthwise,
                    skip_corrupt=skip_corrupt,
                    allow_leakage=allow_leakage,
                    overwrite=overwrite,
                    cache=cache is not False,
                    **options,
                )
    except KeyboardInterrupt:
        begun = (out / "manifest.json").is_file()
        how = f" Go on with: ktransfer train --resume --out {out}" if begun else ""
        print_line(f"\nInterrupted.{how}", stderr=True)
        raise typer.Exit(130) from None
    if not is_writer:
        return
    if elsewhere and formats:
        export_by_tensorflow(run.path, formats)
    print_line(f"run        {run.path}")


def _keep_silent(line: str) -> None:
    """Take a message of a process that does not report."""


def _adapted(
    unlabeled: Path,
    data: str,
    backbone: str,
    out: Path,
    reading: Mapping[str, Any],
    chosen: Mapping[str, Any],
    leave_out_leaks: bool,
    overwrite: bool,
) -> str:
    """The backbone after pretraining on unlabeled texts."""
    from ktransfer.commands.pretrain import adapt_first
    from ktransfer.commands.train_options import TrainOptions

    seed = chosen["seed"] if chosen["seed"] is not None else getattr(chosen["recipe"], "seed", 0)
    found = adapt_first(
        unlabeled,
        data,
        backbone,
        out,
        options=TrainOptions(**reading),
        seed=seed,
        leave_out_leaks=leave_out_leaks,
        overwrite=overwrite,
        verbose=0,
    )
    return str(found.path)


def _adapter(name: str | None, rank: int | None, alpha: float | None, targets: str | None) -> LoRA | None:
    """The adapter that was asked for."""
    from ktransfer.commands.checks import check_choice

    check_choice(name, ADAPTERS, "--adapter")
    if name is None:
        given = {"--rank": rank, "--alpha": alpha, "--targets": targets}
        if wrong := [option for option, value in given.items() if value is not None]:
            raise RunError(
                f"Expected --adapter with {wrong[0]}, got none. Pass --adapter lora, or leave it out."
            )
        return None
    layers = tuple(part.strip() for part in targets.split(",")) if targets is not None else ()
    stable = name == "rslora"
    return LoRA(rank=8 if rank is None else rank, alpha=alpha, targets=layers, rank_stabilized=stable)


def _chosen(
    recipe: Path | None,
    batch_size: int | None,
    seed: int | None,
    class_weight: str | None,
    loss: str | None,
    text_augmentation: float | None,
    quantization_aware: int | None,
    adapter: LoRA | None,
) -> dict[str, Any]:
    """The recipe and what is chosen apart from it, each checked as `Recipe` does it."""
    from ktransfer.commands.checks import check_choice
    from ktransfer.core.modality import asked_augmentation
    from ktransfer.recipes.recipe import LOSSES, Recipe

    check_choice(loss, LOSSES, "--loss")
    check_choice(class_weight, ("balanced",), "--class-weight")
    chosen: dict[str, Any] = {
        "recipe": Recipe.from_json(recipe.read_bytes()) if recipe else None,
        "batch_size": batch_size,
        "seed": seed,
        "class_weight": class_weight,
        "loss": loss,
        "augmentation": asked_augmentation({"text_augmentation": text_augmentation}),
        "quantization_aware": quantization_aware,
        "adapter": adapter,
    }
    given = {name: value for name, value in chosen.items() if value is not None and name != "recipe"}
    dataclasses.replace(chosen["recipe"] or Recipe(stages=()), **given)
    return chosen


def _check_data(
    data: str | None,
    validation: Path | None,
    shares: Mapping[str, float | None],
    data_dir: Path | None,
    exclude: Path | None,
    encoding: str | None,
) -> None:
    from ktransfer.commands.checks import check_data, check_encoding, check_path

    if data is None:
        raise RunError("Expected DATA, got none. Pass a folder, a table or tfds:NAME.")
    check_data(data)
    if validation is not None:
        check_data(validation)
    for name, share in shares.items():
        if share is not None and not 0 < share < 1:
            raise RunError(
                f"Expected --{name}-split between 0 and 1, got {share}. Pass 0.2 to hold out a fifth."
            )
    check_path(data_dir, "--data-dir", folder=True)
    check_path(exclude, "--exclude")
    check_encoding(encoding)


def _check_backbone(
    data: str, backbone: str | None, scaling: str | None, of_modality: Mapping[str, Any]
) -> None:
    from ktransfer.commands.checks import check_modality

    if backbone is None:
        raise RunError("Expected --backbone, got none. `ktransfer backbones` lists the names.")
    modality = check_modality(data, of_modality)
    if modality is not None:
        modality.check_backbone_name(backbone, scaling=scaling)
