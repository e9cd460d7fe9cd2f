"""Mean absolute log error and time of regression runs on photographs of houses, by five-fold cross-validation.

python benchmarks/regression.py [DATA [BACKBONES]] [--methods median ridge head balanced] [--backbone NAME]
                                [--seeds 0 1 2] [--results FILE]

One measurement is one method on one fold of one seed, in a subprocess. A seed shuffles the houses into five
folds; of the four that are not for testing a fifth is for validation, which `ktransfer` chooses on. `median` answers
the median of the training prices. `ridge` is scikit-learn: pooled features of the frozen backbone, standardized, ridge
regression on the logarithm of the price with the strength that is best by cross-validation, on the training and the
validation houses together. `head` is ktransfer's solved head, `fast`, `balanced` and `best` are its presets, all with
`--target-transform log`; with `-refit` what was chosen is trained again on the training and the validation houses.
What is reported is the mean of |log(answer) - log(price)| on the houses of the fold, the share of them within the
prediction interval (promised: 0.9), and seconds (wall and processor); imports are not counted.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import SHARED, note, refuse, report, stopwatch

FOLDS = 5
METHODS = ("median", "ridge", "head", "head-refit", "fast", "balanced", "balanced-refit", "best")
STRENGTHS = [10.0**power for power in range(-1, 6)]
IMAGE_SIZE = 160


def write_folds(source, folder, fold, seed):
    """Tables of a fold, train.csv, val.csv and test.csv next to the linked images; their rows."""
    with (source / "prices.csv").open(encoding="utf-8", newline="") as file:
        rows = [(record["file"], float(record["price_usd"])) for record in csv.DictReader(file)]
    random.Random(seed).shuffle(rows)
    test = rows[fold::FOLDS]
    rest = [row for index, row in enumerate(rows) if index % FOLDS != fold]
    (folder / "images").symlink_to(source / "images")
    parts = {
        "train": [row for index, row in enumerate(rest) if index % FOLDS],
        "val": rest[::FOLDS],
        "test": test,
    }
    for part, found in parts.items():
        with (folder / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("file", "price_usd"), *found])
    return parts


def of_ktransfer(method, folder, preset, seed, files):
    import numpy as np

    import ktransfer

    name, _, refit = method.partition("-")
    options = {"epochs": 0} if name == "head" else {"preset": name}
    options |= {"refit": True} if refit else {}
    with tempfile.TemporaryDirectory() as out:
        run = ktransfer.train(
            folder,
            str(preset),
            f"{out}/run",
            task="regression",
            label_column="price_usd",
            target_transform="log",
            image_size=IMAGE_SIZE,
            seed=seed,
            cache_dir=f"{out}/cache",
            formats=(),
            allow_leakage=True,  # two houses are there twice, for every method alike
            say=note,
            verbose=0,
            **options,
        )
        chosen = run.manifest.get("decision", {}).get("chosen")
        answers = [found[0] for found in run.predict(files)]
    return np.array([found["value"] for found in answers]), answers, {"chosen": chosen}


def ridge(folder, preset):
    """The usual scikit-learn baseline on the same features."""
    import numpy as np
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from ktransfer.data.modality import find_modality
    from ktransfer.features.extract import extract_features

    modality = find_modality(folder)
    facts = {"validation": None, "validation_fraction": 0.2, "data_dir": None, "seed": 0}
    columns = {"task": "regression", "label_column": "price_usd"}
    splits, _ = modality.load_splits(folder, **facts, **columns)
    recipe = modality.default_recipe(examples=len(splits.train), epochs=0)
    network = modality.network(str(preset), splits.train, recipe, image_size=IMAGE_SIZE)

    def features(part):
        order = network.preprocessing.order(part.inputs)
        batches = network.preprocessing.dataset(part.subset(order), batch_size=32, keep=False)
        found, _ = extract_features(network.model, batches, task="regression")
        return found[np.argsort(order)]

    inputs = np.concatenate([features(part) for part in (splits.train, splits.validation)])
    prices = np.concatenate([part.labels for part in (splits.train, splits.validation)])
    model = make_pipeline(StandardScaler(), RidgeCV(STRENGTHS)).fit(inputs, np.log(np.ravel(prices)))
    return np.exp(model.predict(features(splits.test)))


def measure(method, fold, seed, source, preset):
    """Run the measured process: prints the error on the houses of a fold and the seconds it took."""
    import keras
    import numpy as np

    import ktransfer

    keras.utils.set_random_seed(seed)
    ktransfer.load_backbone(str(preset))  # what a first use costs once in a process is not compared
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        parts = write_folds(source, folder, fold, seed)
        files = [str(source / file) for file, _ in parts["test"]]
        prices = np.array([price for _, price in parts["test"]])
        clock, more = stopwatch(), {}
        if method == "median":
            known = [price for part in ("train", "val") for _, price in parts[part]]
            answers = np.full(len(prices), np.median(known))
        elif method == "ridge":
            answers = ridge(folder, preset)
        else:
            answers, found, more = of_ktransfer(method, folder, preset, seed, files)
            if "interval" in found[0]:
                low, high = np.array([each["interval"] for each in found]).T
                more["covered"] = round(float(np.mean((low <= prices) & (prices <= high))), 4)
        times = clock()
    error = float(np.mean(np.abs(np.log(answers) - np.log(prices))))
    print(json.dumps({"log_error": round(error, 4), **times, **more}))


def table(measured):
    """One row for each method: the mean over the folds, and the deviation of these means over the seeds."""
    import numpy as np

    rows = []
    for method in dict.fromkeys(key[0] for key in measured):
        seeds = {}
        for key, value in measured.items():
            if key[0] == method:
                seeds.setdefault(key[2], []).append(value)
        means = [np.mean([value["log_error"] for value in values]) for values in seeds.values()]
        every = [value for values in seeds.values() for value in values]
        found = {"method": method, "seeds": len(seeds), "folds": len(every)}
        found["log_error"] = round(float(np.mean(means)), 4)
        found["log_error_sd"] = round(float(np.std(means, ddof=1)), 4) if len(means) > 1 else None
        if "covered" in every[0]:
            found["covered"] = round(float(np.mean([value["covered"] for value in every])), 3)
            found["fine_tuned"] = sum(bool(value.get("chosen")) for value in every)
        for name in ("seconds", "cpu_seconds"):
            found[name] = round(float(np.mean([value[name] for value in every])), 1)
        rows.append(found)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, default=SHARED / "data", help="default: ../shared/data")
    parser.add_argument(
        "backbones", nargs="?", type=Path, default=SHARED / "backbones", help="default: ../shared/backbones"
    )
    parser.add_argument(
        "--backbone", default="mobilenet_v2_100_imagenet", help="name of a folder in BACKBONES"
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=("median", "ridge", "head", "balanced")
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--results", type=Path, default=Path("regression.jsonl"))
    parser.add_argument(
        "--once", nargs=3, metavar=("METHOD", "FOLD", "SEED"), help="what a measured process does"
    )
    options = parser.parse_args()
    source, preset = options.data / "houses", options.backbones / options.backbone
    if not (source / "prices.csv").is_file():
        refuse(f"Expected a folder with houses/prices.csv as DATA, got {options.data}. Pass another.")
    if not (preset / "config.json").is_file():
        refuse(
            f"Expected a folder of presets with {options.backbone}, got {options.backbones}. Pass another."
        )
    if options.once:
        method, fold, seed = options.once
        measure(method, int(fold), int(seed), source, preset)
        return
    measured = {}
    if options.results.is_file():
        for line in options.results.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            measured[found["method"], found["fold"], found["seed"]] = found
    for seed in options.seeds:
        for fold in range(FOLDS):
            for method in options.methods:
                if (method, fold, seed) in measured:
                    continue
                note(f"== {method}, fold {fold}, seed {seed}")
                command = [sys.executable, __file__, str(options.data), str(options.backbones)]
                command += ["--backbone", options.backbone, "--once", method, str(fold), str(seed)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
                if done.returncode:
                    note(f"{method}, fold {fold}, seed {seed}: failed")
                    continue
                found = {"method": method, "fold": fold, "seed": seed} | json.loads(
                    done.stdout.splitlines()[-1]
                )
                measured[method, fold, seed] = found
                with options.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
    report(table(measured), backbone=options.backbone, image_size=IMAGE_SIZE, folds=FOLDS)


if __name__ == "__main__":
    main()
