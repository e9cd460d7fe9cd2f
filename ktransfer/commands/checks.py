"""Check paths, options and their combinations before TensorFlow is imported."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ktransfer.core.modality import Modality, modalities
from ktransfer.core.task import Task, task_names
from ktransfer.data.modality import find_modality
from ktransfer.data.shards.storage import is_url, list_files
from ktransfer.errors import DataError, ExportError, RecipeError, RunError, did_you_mean
from ktransfer.runs.manifest import check_free, is_run, read_manifest

_MODEL = "model.keras"
_OPTIONS = {
    "validation_fraction": "validation_split",
    "test_fraction": "test_split",
    "evaluate_test": "test",
    "augmentation": "text_augmentation",
}
_ENCODINGS = (
    "utf-8",
    "utf-16",
    "latin-1",
    "ascii",
    "cp1252",
    "gbk",
    "gb18030",
    "big5",
    "shift_jis",
    "euc-kr",
)


def check_run(path: str | Path, *, model: bool = True, artifacts: bool = False) -> dict[str, Any]:
    """Check that a folder is a run that can be used.

    Args:
        path: The run folder.
        model: Whether its model is needed. Defaults to `True`.
        artifacts: Whether what it exported is needed. Defaults to `False`.

    Returns:
        The manifest.

    Raises:
        RunError: It is no run, is damaged, or has no model or no artifacts.

    Example:

        check_run("runs/flowers")["labels"]   # ["daisy", "rose"]
    """
    path = Path(path)
    manifest = read_manifest(path)
    if model and not (path / _MODEL).is_file():
        raise RunError(
            f"Expected a trained model in {path}, got no {_MODEL}, which a run that stopped early does not "
            "have yet. Put it back, or go on with `train --resume`."
        )
    if artifacts and not manifest.get("artifacts"):
        raise RunError(
            f"Expected a run with artifacts, got {path}, which has none. Write them with `ktransfer export "
            f"{path}`, or train first."
        )
    return manifest


def check_data(data: str | Path) -> None:
    """Check that the path, pattern or URL of a data set exists; of `tfds:NAME` nothing is checked.

    Raises:
        DataError: It does not.

    Example:

        check_data("flowers")
    """
    if str(data).startswith("tfds:"):
        return
    if is_url(str(data)) or ("*" in str(data) and not os.path.exists(data)):
        list_files(str(data))
    elif not os.path.exists(Path(data).expanduser()):
        raise DataError(
            f"Expected a folder or a table of examples, got {data}, which does not exist. Check the path, or "
            "pass tfds:NAME."
        )


def check_path(path: str | Path | None, option: str, *, folder: bool = False) -> None:
    """Check that the file or folder of an option exists.

    Args:
        path: `None` where the option was left out.
        option: As on the command line, such as `--recipe`.
        folder: Whether it has to be a folder. Defaults to a file.

    Raises:
        DataError: It does not exist, or is the other kind.

    Example:

        check_path("recipe.json", "--recipe")
    """
    if path is None:
        return
    path, kind = Path(path).expanduser(), "folder" if folder else "file"
    if not (path.is_dir() if folder else path.is_file()):
        received = f"{path}, which is not a {kind}" if path.exists() else f"{path}, which does not exist"
        raise DataError(f"Expected a {kind} for {option}, got {received}. Check the path.")


def check_folder_to_write(path: str | Path, option: str) -> None:
    """Check that files can be written into a folder, which need not exist yet.

    Args:
        path: The folder.
        option: As on the command line, such as `--out`.

    Raises:
        RunError: It is a file, lies in one, or may not be written to.

    Example:

        check_folder_to_write("lr", "--out")
    """
    path = Path(path)
    found = next((each for each in (path, *path.absolute().parents) if each.exists()), path)
    if not found.is_dir():
        raise RunError(
            f"Expected a folder for {option}, got {path}, where {found} is a file. Pass another one."
        )
    if not os.access(found, os.W_OK | os.X_OK):
        raise RunError(
            f"Expected a folder for {option} that can be written to, got {path}. "
            "Change its permissions, or pass another."
        )


def check_free_or_begun(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise `RunError` if a student cannot be made at a path, where one that is not finished may go on.

    Args:
        path: The run folder to make.
        overwrite: Whether a run that is there may be replaced. Defaults to `False`.

    Raises:
        RunError: There is something there already, unless it is a student whose training is not finished, or a run
            and `overwrite` is set.

    Example:

        check_free_or_begun("runs/student")
    """
    path = Path(path)
    if not overwrite and is_run(path):
        manifest = read_manifest(path)
        if "distillation" not in manifest or manifest["status"] == "trained":
            raise RunError(
                f"Expected a free path for the run, got {path}, which holds a run. Choose another, or pass "
                "--overwrite to lose it."
            )
        return
    check_free(path, overwrite=overwrite)


def check_encoding(encoding: str | None) -> None:
    """Check that an encoding of text exists.

    Raises:
        DataError: It does not.

    Example:

        check_encoding("latin-1")
    """
    if encoding is None:
        return
    try:
        b"a".decode(encoding)
    except UnicodeError:  # a known one, in which this is no text
        return
    except (LookupError, ValueError) as error:
        raise DataError(
            f"Expected an encoding of text that Python knows, got {encoding!r}. "
            f"{did_you_mean(encoding, _ENCODINGS)}Pass such as latin-1."
        ) from error


def check_choice(value: str | None, choices: Collection[str], option: str) -> None:
    """Check that the value of an option is one of a few.

    Args:
        value: `None` where the option was left out.
        choices: What it may be.
        option: As on the command line, such as `--loss`.

    Raises:
        RunError: It is none of them; the message suggests the closest.

    Example:

        check_choice("focal", ("cross_entropy", "focal"), "--loss")
    """
    if value is not None and value not in choices:
        raise RunError(
            f"Expected one of {', '.join(choices)} for {option}, got {value!r}. "
            f"{did_you_mean(value, choices)}".rstrip()
        )


def check_exclusive(options: Mapping[str, bool], why: str) -> None:
    """Check that at most one of the options that exclude each other was given.

    Args:
        options: By name as on the command line, whether it was given.
        why: What the error says of them, a clause.

    Raises:
        RunError: Two or more were given.

    Example:

        check_exclusive({"--format": True, "--no-export": False}, "which artifacts to write")
    """
    given = [name for name, is_given in options.items() if is_given]
    if len(given) > 1:
        raise RunError(
            f"Expected one of {', '.join(options)}, {why}, got {' and '.join(given)}. Leave one out."
        )


def refuse_without_out(options: Mapping[str, Any]) -> None:
    """Raise where an option was given that only `predict --out` has.

    Args:
        options: By its name whether it was given.

    Raises:
        DataError: One was.

    Example:
        >>> refuse_without_out({"--overwrite": False})
    """
    if given := [name for name, value in options.items() if value]:
        raise DataError(
            f"Expected --out FILE.parquet with {given[0]}, got none. Pass it, or leave {given[0]} out."
        )


def check_same(manifest: Mapping[str, Any], arguments: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
    """Check that a resumed run was started with the same options.

    Args:
        manifest: Of the run.
        arguments: Options of `train` by the name of its parameter, as the manifest names them; `None` where
            one was left out.
        recipe: What is chosen of the recipe, by the name of its field; `epochs` is of all stages.

    Raises:
        RunError: One was another.

    Example:

        check_same(manifest, {"image_size": 160}, {"seed": None})
    """
    begun = manifest.get("reproduce", {}).get("arguments")
    begun = dict(begun) if isinstance(begun, dict) else {}
    begun |= {"preset": manifest.get("preset"), "refit": manifest.get("refit", False)}
    fields = dict(manifest["recipe"])
    if isinstance(stages := fields.get("stages"), list):
        fields["epochs"] = sum(stage.get("epochs", 0) for stage in stages if isinstance(stage, dict))
    for found, given in ((begun, arguments), (fields, recipe)):
        for name, value in given.items():
            value = str(value.expanduser().resolve()) if isinstance(value, Path) else value
            if value is not None and name in found and found[name] != value:
                option = _OPTIONS.get(name, name).replace("_", "-")
                raise RunError(
                    f"Expected --{option} {found[name]} as at the start of the run with --resume, got {value}. "
                    "Leave it out, or train a new run."
                )


def refuse_options(options: Mapping[str, Any], task: str, data: str | Path) -> None:
    """Raise where an option was given that is for another kind of data.

    Args:
        options: By the name of the parameter, its value; `None` and `False` where it was left out.
        task: `"image-classification"` or `"text-classification"`.
        data: What was found to be of that task.

    Raises:
        DataError: One was given.

    Example:

        refuse_options({"text_column": None}, "image-classification", "flowers")
    """
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if given:
        raise DataError(
            f"Expected options for {task}, which {data} is for, got {', '.join(given)}. Leave it out, or "
            "check the path of the data."
        )


def refuse_others(options: Mapping[str, Any], modality: Modality, data: str | Path) -> None:
    """Raise where an option was given that only other modalities have.

    Args:
        options: By the name of the parameter, its value; `None` and `False` where it was left out.
        modality: Of the data.
        data: What is of this modality: data, or a run.

    Raises:
        DataError: One was given.

    Example:

        refuse_others({"text_column": None, "encoding": "latin-1"}, modality("image"), "flowers")
    """
    others = {name for each in modalities() for name in each.options} - set(modality.options)
    refuse_options({name: options[name] for name in options if name in others}, modality.task, data)


def check_client(client: str | None, task: Task) -> None:
    """Check that a client library has the task's answers.

    Args:
        client: As in `train`; `None` for none.
        task: Of the examples.

    Raises:
        RecipeError: It has labels, and the task has none.

    Example:

        check_client("mediapipe", get_task("single_label"))
    """
    if client is not None and not task.tempered:
        raise RecipeError(
            f"Expected a task with labels for --client {client}, got {task.title}. Leave it out."
        )


def check_modality(data: str | Path, options: Mapping[str, Any]) -> Modality | None:
    """Check that every option applies to the kind of data at a path.

    Args:
        data: As in `train`.
        options: As in `refuse_others`.

    Returns:
        The modality; `None` of a TensorFlow data set, which is looked at later.

    Raises:
        DataError: One does not.
        RunError: `task` is none that there is.

    Example:

        check_modality("flowers", {"image_size": 160, "text_column": None})
    """
    check_choice(options.get("task"), task_names(), "--task")
    if str(data).startswith("tfds:"):
        return None
    modality = find_modality(data)
    refuse_others(options, modality, data)
    return modality


def check_backend() -> None:
    """Check that `KERAS_BACKEND` does not name a backend that cannot export.

    Raises:
        ExportError: It does.

    Example:

        check_backend()
    """
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend != "tensorflow":
        raise ExportError(
            f"Expected the TensorFlow backend for exporting, got KERAS_BACKEND={backend}. Use --no-export, "
            "then `KERAS_BACKEND=tensorflow ktransfer export RUN`: a run loads on any backend."
        )


def check_temperature(manifest: Mapping[str, Any], run: str | Path) -> float:
    """The temperature that was fitted on what a run was validated on.

    Raises:
        RunError: None was.

    Example:

        check_temperature({"temperature": 1.5}, "runs/flowers")   # 1.5
    """
    temperature = manifest.get("temperature")
    if not isinstance(temperature, int | float):
        raise RunError(
            f"Expected a temperature fitted on validation in the manifest of {run}, got {temperature!r}. Fit "
            f"it with `ktransfer report {run}`, or leave it out."
        )
    return float(temperature)
