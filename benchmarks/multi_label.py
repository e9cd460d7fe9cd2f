"""Macro F1 and time of multi-label runs, and of one regression a label on the same frozen features.

python benchmarks/multi_label.py [DATA [BACKBONES]] [--rows goemotions camvid] [--methods head one-vs-rest]
                                 [--seeds 0 1 2] [--results FILE]

One measurement is one method on one row with one seed, in a subprocess. `one-vs-rest` is scikit-learn:
pooled features of the frozen backbone, standardised, one logistic regression a label, of C 0.1 and 1 the one with the
better macro F1 on validation. Thresholds are fitted on validation by the same rule in all methods
(`ktransfer.tasks.multi_label.fit_thresholds`); what is reported is measured on the test examples. `head` is the solved
head, `fast` and `balanced` are presets. Rows: `goemotions` (12,000 texts, its validation and test splits), `camvid`
(frames of train and test for training, a fifth of them for validation, the frames of val for testing) and
`camvid-by-drive` (all frames; with `--group-column` validation has other drives than training, and testing a drive that
neither has, another for each seed). Imports are not counted.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import SHARED, note, refuse, report

ROWS = {
    "goemotions": ("minilm_l6_h384_uncased", 0),
    "camvid": ("mobilenet_v2_100_imagenet", 160),
    "camvid-by-drive": ("mobilenet_v2_100_imagenet", 160),
}
METHODS = ("one-vs-rest", "head", "fast", "balanced")
STRENGTHS = (0.1, 1.0)


def write_data(row, shared, folder, seed):
    """The tables of a row and a seed: train.csv, perhaps val.csv, and test.csv; how `train` is to read them."""
    name = row.partition("-")[0]
    source = shared / {"camvid": "camvid_tags"}.get(name, name)
    by_split = {split: _read(source / f"{split}.csv") for split in ("train", "val", "test")}
    if name == "goemotions":
        seen = {text.casefold() for split in ("val", "test") for text, _ in by_split[split]}
        by_split["train"] = [record for record in by_split["train"] if record[0].casefold() not in seen]
        held = {text.casefold() for text, _ in by_split["test"]}
        by_split["val"] = [record for record in by_split["val"] if record[0].casefold() not in held]
        header, options = ("text", "labels"), {}
    else:
        header, options = ("file", "labels", "drive"), {"image_size": ROWS[row][1]}
        frames = [
            (str(source / file), labels, file.rpartition("/")[2].partition("_")[0])
            for split in ("train", "test", "val")
            for file, labels in by_split[split]
        ]
        if row == "camvid":
            names = {str(source / file) for file, _ in by_split["val"]}
            found = {
                "train": [frame for frame in frames if frame[0] not in names],
                "test": [frame for frame in frames if frame[0] in names],
            }
        else:
            drives = sorted({frame[2] for frame in frames})
            tested = drives[seed % len(drives)]
            found = {
                "train": [frame for frame in frames if frame[2] != tested],
                "test": [frame for frame in frames if frame[2] == tested],
            }
            options["group_column"] = "drive"
        by_split = {split: [_linked(frame, folder) for frame in rows] for split, rows in found.items()}
    for split, rows in by_split.items():
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    return options


def _linked(frame, folder):
    """A frame as the table names it: its file is linked into the folder."""
    path = Path(frame[0])
    target = folder / "frames" / path.name
    target.parent.mkdir(exist_ok=True)
    if not target.exists():
        target.symlink_to(path)
    return f"frames/{path.name}", *frame[1:]


def _read(path):
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        return [tuple(record[:2]) for record in reader]


def of_ktransfer(method, folder, preset, options, seed):
    import ktransfer

    options |= {"epochs": 0} if method == "head" else {"preset": method}
    with tempfile.TemporaryDirectory() as out:
        run = ktransfer.train(
            folder,
            str(preset),
            f"{out}/run",
            seed=seed,
            cache_dir=f"{out}/cache",
            formats=(),
            say=note,
            verbose=0,
            allow_leakage=True,  # frames of one drive resemble each other
            **options,
        )
        return json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))["test"]


def one_vs_rest(folder, preset, options, seed):
    """The usual scikit-learn baseline on the same splits and features."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import StandardScaler

    from ktransfer.core.task import get_task
    from ktransfer.data.modality import find_modality
    from ktransfer.features.extract import extract_features
    from ktransfer.tasks.multi_label import fit_thresholds

    modality = find_modality(folder)
    columns = {name: options[name] for name in ("group_column",) if name in options}
    facts = {"validation": None, "validation_fraction": 0.2, "data_dir": None, "seed": seed}
    splits, _ = modality.load_splits(folder, **facts, **columns)
    recipe = modality.default_recipe(examples=len(splits.train), epochs=0)
    network = modality.network(str(preset), splits.train, recipe, image_size=options.get("image_size"))
    features, labels = {}, {}
    for name in ("train", "validation", "test"):
        split = getattr(splits, name)
        order = network.preprocessing.order(split.inputs)
        batches = network.preprocessing.dataset(split.subset(order), batch_size=32, keep=False)
        found, _ = extract_features(network.model, batches, task="multi_label")
        features[name], labels[name] = found[np.argsort(order)], split.labels
    scaler = StandardScaler().fit(features["train"])
    inputs = {name: scaler.transform(found) for name, found in features.items()}
    best = (-1.0, None, None)
    for strength in STRENGTHS:
        model = OneVsRestClassifier(LogisticRegression(C=strength, max_iter=1_000))
        model.fit(inputs["train"], labels["train"])
        probabilities = model.predict_proba(inputs["validation"])
        thresholds = fit_thresholds(probabilities, labels["validation"])
        value = f1_score(labels["validation"], probabilities >= thresholds, average="macro", zero_division=0)
        best = max(best, (value, model, thresholds), key=lambda each: each[0])
    _, model, thresholds = best
    fitted = {"decision": {"thresholds": thresholds.tolist()}, "temperature": 1.0}
    evaluation = get_task("multi_label").evaluate(
        model.predict_proba(inputs["test"]), labels["test"], splits.train.class_names, fitted=fitted
    )
    return evaluation.to_dict()


def measure(row, method, seed, shared, backbones):
    """Run the measured process: prints the scores on the test examples and the seconds it took."""
    import keras

    import ktransfer

    name, size = ROWS[row]
    keras.utils.set_random_seed(seed)
    load = ktransfer.load_backbone if size else ktransfer.load_text_backbone
    load(str(backbones / name))  # what a first use costs once in a process is not compared
    with tempfile.TemporaryDirectory() as folder:
        options = write_data(row, shared, Path(folder), seed)
        start = time.perf_counter()
        if method == "one-vs-rest":
            scores = one_vs_rest(Path(folder), backbones / name, options, seed)
        else:
            scores = of_ktransfer(method, Path(folder), backbones / name, options, seed)
        seconds = time.perf_counter() - start
    found = {
        "macro_f1": scores["macro"]["f1"],
        "micro_f1": scores["micro"]["f1"],
        "mean_average_precision": scores["mean_average_precision"],
        "seconds": round(seconds, 1),
    }
    print(json.dumps(found))


def table(measured):
    """One row for each set of examples and method: means and deviations over the seeds."""
    import numpy as np

    rows = []
    for row, method in dict.fromkeys(key[:2] for key in measured):
        seeds = [value for key, value in measured.items() if key[:2] == (row, method)]
        found = {"row": row, "method": method, "seeds": len(seeds)}
        for score in ("macro_f1", "micro_f1", "mean_average_precision", "seconds"):
            values = [value[score] for value in seeds]
            found[score] = round(float(np.mean(values)), 4)
            found[f"{score}_sd"] = round(float(np.std(values, ddof=1)), 4) if len(values) > 1 else None
        rows.append(found)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, default=SHARED / "data", help="default: ../shared/data")
    parser.add_argument(
        "backbones", nargs="?", type=Path, default=SHARED / "backbones", help="default: ../shared/backbones"
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--results", type=Path, default=Path("multi_label.jsonl"))
    parser.add_argument(
        "--once", nargs=3, metavar=("ROW", "METHOD", "SEED"), help="what a measured process does"
    )
    options = parser.parse_args()
    if options.once:
        row, method, seed = options.once
        measure(row, method, int(seed), options.data, options.backbones)
        return
    for row in options.rows:
        source = options.data / {"camvid": "camvid_tags"}.get(row.partition("-")[0], row)
        if not (source / "train.csv").is_file():
            refuse(f"Expected a folder with {source.name} as DATA, got {options.data}. Pass another.")
    measured = {}
    if options.results.is_file():
        for line in options.results.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            measured[found["row"], found["method"], found["seed"]] = found
    for row in options.rows:
        for seed in options.seeds:
            for method in options.methods:
                if (row, method, seed) in measured:
                    continue
                note(f"== {row} {method} seed {seed}")
                command = [sys.executable, __file__, str(options.data), str(options.backbones)]
                done = subprocess.run(
                    [*command, "--once", row, method, str(seed)], stdout=subprocess.PIPE, text=True
                )
                if done.returncode:
                    note(f"{row} {method} seed {seed}: failed")
                    continue
                found = {"row": row, "method": method, "seed": seed} | json.loads(
                    done.stdout.splitlines()[-1]
                )
                measured[row, method, seed] = found
                with options.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
    report(table(measured), training_rows=options.rows, methods=list(options.methods), seeds=options.seeds)


if __name__ == "__main__":
    main()
