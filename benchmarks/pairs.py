"""Spearman's rank correlation and time on the STS benchmark, next to a plain script with Hugging Face's Trainer.

python benchmarks/pairs.py [DATA [BACKBONES]] [--methods head balanced trainer] [--seeds 0 1 2] [--rows N]
                           [--results FILE] [--smoke]

One measurement is one method with one seed, in a subprocess; imports and a first load of the backbone are not counted.
The scores are those of the official test split. `head` is the solved head, `fast`, `balanced` and `best` are presets;
`trainer` is `AutoModelForSequenceClassification` with one output and a `Trainer` at its usual settings (learning rate
5e-5, batches of 16, the best epoch by Spearman on validation) for `--epochs`, from the same MiniLM weights. It is
skipped with a printed line where torch or transformers are not installed. `--rows` trains all methods on that many
rows, drawn by the seed.
"""

import argparse
import csv
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import SHARED, note, refuse, report, stopwatch

BACKBONE, DATA = "minilm_l6_h384_uncased", "stsb"
METHODS = ("head", "fast", "balanced", "best", "trainer")
PEER = ("torch", "transformers", "accelerate", "safetensors")
NAMES = ("sentence1", "sentence2", "score")
SMOKE = 60  # rows of each split
LENGTH = 128  # tokens of the peer; of all pairs fewer than one in a thousand has more


def missing():
    """The packages that the peer lacks."""
    return [name for name in PEER if importlib.util.find_spec(name) is None]


def splits_of(folder, seed, rows, smoke):
    """`{split: [(first, second, score), ...]}`; of training `rows` that the seed draws, of `--smoke` a few of each."""
    import numpy as np

    found = {}
    for name in ("train", "val", "test"):
        with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            read = [(row[NAMES[0]], row[NAMES[1]], float(row[NAMES[2]])) for row in csv.DictReader(file)]
        most = SMOKE if smoke else rows if name == "train" and rows else len(read)
        chosen = (
            np.random.default_rng(seed).permutation(len(read))[:most] if most < len(read) else range(most)
        )
        found[name] = [read[index] for index in chosen]
    return found


def of_ktransfer(method, splits, preset, seed):
    import ktransfer

    options = {"epochs": 0} if method == "head" else {"preset": method}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "data").mkdir()
        for name, rows in splits.items():
            with (folder / "data" / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([NAMES, *rows])
        clock = stopwatch()
        run = ktransfer.train(
            folder / "data",
            str(preset),
            folder / "run",
            task="regression",
            seed=seed,
            cache_dir=folder / "cache",
            formats=(),
            say=note,
            verbose=0,
            allow_leakage=True,  # pairs that repeat are part of the official splits
            **options,
        )
        times = clock()
        metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    scores = [metrics[name]["spearman"]["value"] for name in ("test", "validation")]
    return (*scores, metrics["test"]["rmse"]["value"], times)


def of_trainer(splits, preset, seed, epochs):
    """Train as a plain script with transformers does: one output, squared error, the best epoch on validation."""
    import numpy as np
    from scipy.stats import spearmanr
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(preset, do_lower_case=True)

    class Rows:
        def __init__(self, rows):
            self.encoded = tokenizer(
                [row[0] for row in rows], [row[1] for row in rows], truncation=True, max_length=LENGTH
            )
            self.scores = [row[2] for row in rows]

        def __len__(self):
            return len(self.scores)

        def __getitem__(self, index):
            row = {name: values[index] for name, values in self.encoded.items()}
            return {**row, "labels": self.scores[index]}

    data = {name: Rows(rows) for name, rows in splits.items()}

    def scores(answers, truth):
        answers, truth = np.ravel(answers), np.ravel(truth)
        return {
            "spearman": float(spearmanr(answers, truth).statistic),
            "rmse": float(np.sqrt(np.mean((answers - truth) ** 2))),
        }

    clock = stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            # In float32 whatever the file has: transformers 5 would train float16 weights as they are.
            AutoModelForSequenceClassification.from_pretrained(preset, num_labels=1).float(),
            TrainingArguments(
                output_dir=folder,
                num_train_epochs=epochs,
                learning_rate=5e-5,
                per_device_train_batch_size=16,
                per_device_eval_batch_size=64,
                eval_strategy="epoch",
                save_strategy="epoch",
                load_best_model_at_end=True,
                metric_for_best_model="spearman",
                greater_is_better=True,
                report_to=[],
                seed=seed,
                disable_tqdm=True,
            ),
            train_dataset=data["train"],
            eval_dataset=data["val"],
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda found: scores(found.predictions, found.label_ids),
        )
        trainer.train()
        found = {
            name: scores(trainer.predict(data[name]).predictions, data[name].scores)
            for name in ("test", "val")
        }
    return found["test"]["spearman"], found["val"]["spearman"], found["test"]["rmse"], clock()


def measure(method, seed, options):
    """Print the scores of one method and seed on the test split, and the seconds it took."""
    preset = options.backbones / BACKBONE
    if method != "trainer":  # some builds of torch and TensorFlow crash in one process
        import keras

        import ktransfer

        keras.utils.set_random_seed(seed)
        ktransfer.load_text_backbone(str(preset))  # what a first use costs once in a process is not compared
    splits = splits_of(options.data / DATA, seed, options.rows, options.smoke)
    if method == "trainer":
        test, validation, rmse, times = of_trainer(splits, preset, seed, options.epochs)
    else:
        test, validation, rmse, times = of_ktransfer(method, splits, preset, seed)
    found = {"spearman": test, "validation_spearman": validation, "rmse": rmse, **times}
    print(json.dumps(found | {"rows": len(splits["train"])}))


def table(measured):
    """One row for each method: means and deviations over the seeds."""
    import numpy as np

    rows = []
    for method in dict.fromkeys(key[0] for key in measured):
        seeds = [value for key, value in measured.items() if key[0] == method]
        found = {"method": method, "seeds": len(seeds), "rows": seeds[0]["rows"]}
        for score in ("spearman", "validation_spearman", "rmse", "seconds", "cpu_seconds"):
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
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=("head", "balanced", "trainer"), metavar="METHOD"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=0, help="of training (default: all)")
    parser.add_argument(
        "--epochs", type=int, default=5, help="of the peer (default: 5, as many as balanced has)"
    )
    parser.add_argument("--results", type=Path, default=Path("pairs.jsonl"))
    parser.add_argument("--smoke", action="store_true", help="a few rows, only to see that it works")
    parser.add_argument("--once", nargs=2, metavar=("METHOD", "SEED"), help="what a measured process does")
    options = parser.parse_args()
    if options.once:
        measure(options.once[0], int(options.once[1]), options)
        return
    if not (options.data / DATA).is_dir() or not (options.backbones / BACKBONE / "config.json").is_file():
        refuse(
            f"Expected {DATA} in DATA and {BACKBONE} in BACKBONES, got {options.data} and {options.backbones}. "
            "Pass others."
        )
    methods = list(options.methods)
    if "trainer" in methods and (lacking := missing()):
        note(f"trainer: skipped, {', '.join(lacking)} are not installed")
        methods.remove("trainer")
    measured = {}
    if options.results.is_file():
        for line in options.results.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            measured[found["method"], found["seed"]] = found
    for seed in options.seeds:
        for method in methods:
            if (method, seed) in measured:
                continue
            note(f"== {method} seed {seed}")
            command = [sys.executable, __file__, str(options.data), str(options.backbones)]
            command += ["--once", method, str(seed), "--epochs", str(options.epochs)]
            command += ["--rows", str(options.rows), *["--smoke"] * options.smoke]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                note(f"{method} seed {seed}: failed")
                continue
            found = {"method": method, "seed": seed} | json.loads(done.stdout.splitlines()[-1])
            measured[method, seed] = found
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
    report(
        table(measured),
        methods=methods,
        seeds=options.seeds,
        epochs=options.epochs,
        training_rows=options.rows,
        smoke=options.smoke,
    )


if __name__ == "__main__":
    main()
