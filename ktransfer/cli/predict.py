"""`ktransfer predict`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ktransfer.cli.options import AsJson, Encoding, FileColumn, RunFolder, TextColumn, TextColumns
from ktransfer.utils.terminal import print_json, print_line, quiet_imports, shortened


def predict(
    run: RunFolder,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Images, and folders of them. Of a run on texts: texts, tables of them, .txt files, each "
            "one text, and folders of these. Of a run on pairs: tables of both texts, and texts of which two "
            "are a pair. With --out also shards (.parquet, .tfrecord, .tar), patterns, and URLs such as s3://."
        ),
    ],
    top_k: Annotated[int, typer.Option(min=1, help="Number of labels for each.")] = 3,
    text_column: TextColumn = None,
    text_columns: TextColumns = None,
    file_column: FileColumn = None,
    encoding: Encoding = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write answers to this .parquet file, in bounded memory; after a kill the same command resumes."
        ),
    ] = None,
    artifact: Annotated[
        str, typer.Option(help="With --out: auto takes the fastest that was verified; or keras, or a format.")
    ] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file of --out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Classify images or texts: the most probable labels with their probabilities."""
    from ktransfer.commands.checks import check_encoding, check_run, refuse_others, refuse_without_out
    from ktransfer.core.modality import modality_of_manifest

    manifest = check_run(run)
    modality = modality_of_manifest(manifest)
    columns = {"text_column": text_column, "text_columns": text_columns, "file_column": file_column}
    refuse_others(columns, modality, run)
    check_encoding(encoding)
    if out is not None:
        _predict_batch(run, inputs, out, columns, top_k, encoding, artifact, overwrite, as_json)
        return
    refuse_without_out(
        {"--artifact": artifact != "auto", "--overwrite": overwrite, "--file-column": file_column}
    )
    modality.check_inputs(inputs, encoding=encoding)
    with quiet_imports():
        from ktransfer.commands.predict import predict as predict_run
        from ktransfer.runs.run import Run
    loaded = Run.load(run)
    noun, found = predict_run(
        loaded,
        inputs,
        top_k=top_k,
        text_column=text_column,
        text_columns=text_columns,
        encoding=encoding,
        say=partial(print_line, stderr=True),
    )
    for given, answers in found:
        if as_json:
            print_json({noun: given, "predictions": answers})
        else:
            print_line(f"{shortened(str(given))}: {loaded.task.answer_line(answers)}")


def _predict_batch(
    run: Path,
    inputs: list[str],
    out: Path,
    columns: dict[str, str | None],
    top_k: int,
    encoding: str | None,
    artifact: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Answer into a file."""
    with quiet_imports():
        from ktransfer.commands.batch_predict import check_out, predict_batch
        from ktransfer.commands.predict import batch_columns
        from ktransfer.runs.run import Run
    check_out(out, overwrite=overwrite)
    loaded = Run.load(run)
    found = predict_batch(
        loaded,
        inputs,
        out,
        top_k=top_k,
        columns=batch_columns(loaded, **columns, encoding=encoding),
        artifact=artifact,
        overwrite=overwrite,
        verbose=1,
        say=partial(print_line, stderr=True),
    )
    if as_json:
        facts = {"rows": found.rows, "unanswered": found.unanswered, "resumed": found.resumed}
        print_json({"out": str(found.path), "engine": found.engine, **facts})
        return
    wrong = f", {found.unanswered:,} without an answer (column error)" if found.unanswered else ""
    print_line(f"{found.path}: {found.rows:,} rows{wrong}")
