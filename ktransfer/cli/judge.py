"""`ktransfer evaluate` and `ktransfer predict`."""

from functools import partial
from typing import Annotated

import typer

from ktransfer.cli.options import AsJson, Data, DataDir, Encoding, LabelColumn, RunFolder, TextColumn
from ktransfer.files import write_json
from ktransfer.terminal import print_evaluation, print_json, print_line, quiet_imports, shortened


def evaluate(
    run: RunFolder,
    data: Data,
    data_dir: DataDir = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    encoding: Encoding = None,
    as_json: AsJson = False,
):
    """Judge a run on labelled images or texts: accuracy, precision, recall, F1, confusion matrix."""
    from ktransfer.jobs.checks import check_data, check_encoding, check_path, check_run, refuse_text_options

    manifest = check_run(run)
    options = {"text_column": text_column, "label_column": label_column, "encoding": encoding}
    refuse_text_options(manifest, run, **options)
    check_encoding(encoding)
    check_data(data)
    check_path(data_dir, "--data-dir", folder=True)
    with quiet_imports():
        from ktransfer.jobs.evaluate import evaluate as evaluate_run
        from ktransfer.run import Run
    loaded = Run.load(run)
    result, part = evaluate_run(
        loaded,
        data,
        data_dir=data_dir,
        **options,
        say=partial(print_line, stderr=as_json),
    )
    values = {"data": data, "part": part, **result.to_dict()}
    write_json(run / "evaluation.json", values)
    result.save_confusion(run / "evaluation.png")
    if as_json:
        print_json(values)
        return
    print_evaluation(result, "texts" if loaded.task == "text-classification" else "images")
    print_line(f"written to {run / 'evaluation.json'}, confusion matrix drawn to {run / 'evaluation.png'}")


def predict(
    run: RunFolder,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Images, and folders of them. Of a run on texts: texts, tables of them, .txt files, each "
            "one text, and folders of these."
        ),
    ],
    top_k: Annotated[int, typer.Option(min=1, help="How many labels for each.")] = 3,
    text_column: TextColumn = None,
    encoding: Encoding = None,
    as_json: AsJson = False,
):
    """Classify images or texts: the most probable labels with their probabilities."""
    from ktransfer.data.task import TEXTS
    from ktransfer.jobs.checks import check_encoding, check_run, refuse_text_options
    from ktransfer.jobs.inputs import find_images

    manifest = check_run(run)
    refuse_text_options(manifest, run, text_column=text_column, encoding=encoding)
    check_encoding(encoding)
    if manifest.get("task") != TEXTS:
        find_images(inputs, decode=False)
    with quiet_imports():
        from ktransfer.jobs.predict import predict as predict_run
        from ktransfer.run import Run
    noun, found = predict_run(
        Run.load(run),
        inputs,
        top_k=top_k,
        text_column=text_column,
        encoding=encoding,
        say=partial(print_line, stderr=True),
    )
    for given, answers in found:
        if as_json:
            print_json({noun: given, "predictions": answers})
        else:
            print_line(
                f"{shortened(given)}: " + ", ".join(f"{a['label']} {a['probability']:.1%}" for a in answers)
            )
