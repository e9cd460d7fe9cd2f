"""`ktransfer predict`: predictions of a run for images, texts, or files of texts."""

from collections.abc import Sequence
from typing import Any

from ktransfer.commands.batch_sources import Columns
from ktransfer.commands.checks import refuse_others
from ktransfer.commands.splits import Say
from ktransfer.data.tables.columns import as_reference, split_references
from ktransfer.errors import DataError
from ktransfer.runs.run import Run
from ktransfer.utils.terminal import print_line


def predict(
    run: Run,
    inputs: Sequence[str],
    *,
    top_k: int = 5,
    text_column: str | None = None,
    text_columns: str | Sequence[str] | None = None,
    encoding: str | None = None,
    say: Say = print_line,
) -> tuple[str, list[tuple[str, list[dict[str, Any]]]]]:
    """Predict names, files, folders and tables with a run.

    Args:
        run: What `Run.load` gave.
        inputs: Image files and folders, whose images are taken at any depth. Of a text classifier: texts,
            tables whose every row has one, other files, each of which is one text, and folders of tables and
            `.txt` files. Of one of pairs: tables with both texts, folders of them, and texts, two for each pair.
        top_k: How many labels for each.
        text_column: Of tables; `None` takes the one that the run was trained on.
        text_columns: Of tables, of a run that was trained on pairs of texts; the same.
        encoding: Of files, as Python names it; `None` takes UTF-8.
        say: Callable that receives a line on files that were skipped. Defaults to `print_line`, which prints it.

    Returns:
        `"file"` or `"text"`, and for each of these itself and its answers, as in `Run.predict`.

    Raises:
        DataError: A file cannot be read, or has no texts; a folder has nothing to classify; or an option is
            for texts and the run for images.

    Example:

        predict(Run.load("runs/spam"), ["Free entry!", "new.csv"])
    """
    found_columns = batch_columns(run, text_column=text_column, text_columns=text_columns, encoding=encoding)
    column = found_columns.for_find()
    found = run.modality.find_inputs(inputs, column=column, encoding=encoding)
    for note in found.notes:
        say(note)
    return run.modality.kind, list(zip(found.items, run.predict(found.items, top_k=top_k), strict=True))


def batch_columns(
    run: Run,
    *,
    text_column: str | None = None,
    text_columns: str | Sequence[str] | None = None,
    file_column: str | None = None,
    encoding: str | None = None,
) -> Columns:
    """The columns of the examples of a run, in tables and shards.

    Args:
        run: What `Run.load` gave.
        text_column, text_columns, encoding: As in `predict`.
        file_column: Of shards, the field with the bytes of images. Defaults to the customary one.

    Raises:
        DataError: An option is for other examples than the run's.

    Example:

        batch_columns(Run.load("runs/spam"), text_column="message").asked   # ("message",)
    """
    options = {"text_column": text_column, "text_columns": text_columns, "encoding": encoding}
    refuse_others(options, run.modality, run.path)
    facts = run.manifest.get("data", {})
    trained, pairs = facts.get("text_columns"), as_reference(text_columns)
    wrong = "text_column" if trained and text_column else "text_columns" if pairs and not trained else None
    if wrong:
        fits = "pairs of texts: pass --text-columns" if trained else "single texts: pass --text-column"
        raise DataError(
            f"Expected columns as the run was trained on, got {wrong}={options[wrong]!r}. It reads {fits}."
        )
    if trained:
        return Columns(
            tuple(split_references(pairs)) if pairs else (), tuple(split_references(trained)), True, encoding
        )
    asked = text_column or file_column
    before = facts.get("text_column")
    return Columns((asked,) if asked else (), (before,) if before else (), False, encoding)
