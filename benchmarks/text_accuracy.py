"""Wall time and accuracy on texts: plain keras-hub fine-tuning against ktransfer's default, in one run.

python benchmarks/text_accuracy.py [TEXTS [BACKBONES]]

All read the same CSV files with the same weights and batch size, one after the other, each in a
subprocess; imports are not counted, and ktransfer begins with an empty cache. "keras-hub" is a `TextClassifier`
as it comes: every layer trains, Adam 5e-5, 512 tokens. "keras-hub, same tokens" is given the length that
ktransfer chooses. Both run as many epochs as ktransfer's recipe, and at least one. ktransfer's seconds to an
accuracy are those until a validated model has it, the solved head or the last one.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import SHARED, note, presets, refuse, report

BATCH, PRESET = 32, "minilm_l6_h384_uncased"
SOURCES = {"sms_spam": "sms_spam/SMSSpamCollection", "snips": "snips"}
OURS, PLAIN, SAME = "ktransfer", "keras-hub", "keras-hub, same tokens"
# At 512 tokens one epoch of snips takes more than an hour on two cores.
BASELINES = {"sms_spam": (SAME, PLAIN), "snips": (SAME,)}


def keras_hub_fit(folder, preset, tokens, epochs):
    """Plain keras-hub, as its guide to text classification has it."""
    import keras
    import keras_hub
    import numpy as np
    from sklearn.metrics import f1_score

    keras.utils.set_random_seed(0)
    (texts, labels), (held_texts, held_labels) = (_read(folder / f"{name}.csv") for name in ("train", "val"))
    names, targets = np.unique(labels, return_inverse=True)
    truth = np.searchsorted(names, held_labels)
    tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(str(preset))
    length = {"sequence_length": tokens} if tokens else {}
    classifier = keras_hub.models.BertTextClassifier(
        keras_hub.models.Backbone.from_preset(str(preset)),
        num_classes=len(names),
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(tokenizer, **length),
    )
    held = np.array(held_texts)
    classifier.fit(np.array(texts), targets, batch_size=BATCH, epochs=epochs, verbose=0)
    answers = classifier.predict(held, batch_size=BATCH, verbose=0).argmax(axis=1)
    scores = f1_score(truth, answers, average=None, labels=range(len(names)), zero_division=0)
    return {
        "accuracy": float((answers == truth).mean()),
        "rarest_class_f1": float(scores[np.bincount(truth).argmin()]),
        "tokens": classifier.preprocessor.sequence_length,
        "epochs": epochs,
    }


def ktransfer_default(folder, preset):
    """`ktransfer.train` with defaults, given only the path of the texts."""
    import ktransfer

    start, solved = time.perf_counter(), []

    def say(line):
        note(line)
        if line.startswith("head "):
            solved.append(time.perf_counter() - start)

    with tempfile.TemporaryDirectory() as out:
        run = ktransfer.train(
            folder,
            str(preset),
            f"{out}/run",
            text_column="text",
            label_column="label",
            cache_dir=f"{out}/cache",
            formats=(),
            say=say,
            verbose=0,
        )
        scores = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))["validation"]
    head = run.manifest["head"]
    return {
        "accuracy": scores["accuracy"],
        "rarest_class_f1": min(scores["per_class"].values(), key=lambda score: score["support"])["f1"],
        "tokens": run.preprocessing.sequence_length,
        "epochs": run.recipe.epochs,
        "validated": [[solved[0], head["validation"]]] if "validation" in head else [],
    }


def measure(name, folder, preset, tokens, epochs):
    """Run the measured process: prints its scores and the seconds that they took."""
    import keras

    import ktransfer

    # Whatever a first use costs once in a process is paid before it is timed.
    backbone = ktransfer.load_text_backbone(str(preset))
    backbone.predict(ktransfer.load_text_preprocessing(str(preset), backbone)(["once"]), verbose=0)
    keras.backend.clear_session()
    start = time.perf_counter()
    if name == OURS:
        found = ktransfer_default(folder, preset)
    else:
        found = keras_hub_fit(folder, preset, tokens, epochs)
    print(json.dumps({"seconds": time.perf_counter() - start} | found))


def compare(data, source, preset, *, smoke, short):
    """The rows of one data set; ktransfer is first, as the others take its tokens and epochs."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_splits(source, Path(folder), most=64 if smoke else None)
        for name in (OURS, *(name for name in BASELINES[data] if name != PLAIN or not short)):
            ours = rows[0] if rows else {"tokens": 0, "epochs": 0}
            tokens, epochs = (0 if name == PLAIN else ours["tokens"]), max(1, ours["epochs"])
            command = [sys.executable, __file__, folder, preset, "--once", name, str(tokens), str(epochs)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows.append({"data": data, "recipe": name} | json.loads(done.stdout.splitlines()[-1]))
            note(f"{data}, {name}: {rows[-1]['seconds']:.1f} s, accuracy {rows[-1]['accuracy']:.4f}")
    validated = [*rows[0].pop("validated"), [rows[0]["seconds"], rows[0]["accuracy"]]]
    for row in rows:
        seconds = min((s for s, accuracy in validated if accuracy >= row["accuracy"]), default=None)
        row["ktransfer_seconds_to_its_accuracy"] = seconds
        row["ratio"] = seconds and row["seconds"] / seconds
    return rows


def write_splits(source, folder, *, most):
    """Training and validation texts as CSV files that everybody reads; `most` of each, `None` for all.

    Ten texts of snips are in both of its files; here they are used for evaluation only.
    """
    import ktransfer
    from ktransfer.data.examples import normalised

    splits, _ = ktransfer.load_text_splits(source, seed=0)
    # keras-hub's `fit` takes the rows as they come, and those of snips come sorted by class.
    shuffle = random.Random(0).shuffle
    held = set(map(normalised, splits.validation.inputs))
    for name, split in (("train", splits.train), ("val", splits.validation)):
        rows = [(t, split.class_names[label]) for t, label in zip(split.inputs, split.labels, strict=True)]
        rows = [row for row in rows if name == "val" or normalised(row[0]) not in held]
        shuffle(rows)
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows[:most]])


def _read(path):
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "texts",
        nargs="?",
        type=Path,
        default=SHARED / "data",
        help="folder with sms_spam/ and snips/ (default: ../shared/data)",
    )
    parser.add_argument(
        "backbones",
        nargs="?",
        type=Path,
        default=SHARED / "backbones",
        help=f"folder that holds the preset {PRESET}, or a BERT preset (default: ../shared/backbones)",
    )
    parser.add_argument("--short", action="store_true", help="without keras-hub at 512 tokens, half an hour")
    parser.add_argument("--smoke", action="store_true", help="the smallest sizes, only to see that it works")
    parser.add_argument(
        "--once", nargs=3, metavar=("NAME", "TOKENS", "EPOCHS"), help="what a measured process does"
    )
    options = parser.parse_args()
    if options.once:
        name, tokens, epochs = options.once
        measure(name, options.texts, options.backbones, int(tokens), int(epochs))
        return
    sources = {name: options.texts / path for name, path in SOURCES.items()}
    for source in sources.values():
        if not source.exists():
            missing = source.relative_to(options.texts)
            refuse(f"Expected {missing} in TEXTS, got {options.texts}. Pass another.")
    (preset,) = presets(options, PRESET)
    sizes = {"smoke": options.smoke, "short": options.short}
    rows = [row for name, source in sources.items() for row in compare(name, source, preset, **sizes)]
    report(rows, preset=preset.name, batch_size=BATCH)


if __name__ == "__main__":
    main()
