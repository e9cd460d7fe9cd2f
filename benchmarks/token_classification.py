"""Entity F1 and time on WNUT-17, next to a plain script with Hugging Face's Trainer on the same weights.

python benchmarks/token_classification.py [DATA [BACKBONES]] [--methods head balanced trainer] [--seeds 0 1 2]
                                          [--results FILE] [--smoke]

One measurement is one method with one seed, in a subprocess; imports and a first load of the backbone are not
counted. The scores are those of the official test split. `head` is the solved head, `fast`, `balanced` and `best` are
presets; `trainer` is `AutoModelForTokenClassification` with a `Trainer` at its usual settings (learning rate 5e-5,
batches of 16, first-subword labels) for `--epochs`, its best epoch by entity F1 on validation. It is skipped with a
message where torch or transformers are not installed. All are scored by the spans that they give, counted as
by seqeval in its strict mode.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import SHARED, note, refuse, report, stopwatch

BACKBONE, DATA = "minilm_l6_h384_uncased", "wnut17_ner"
METHODS = ("head", "fast", "balanced", "best", "trainer")
PEER = ("torch", "transformers", "accelerate", "safetensors")
SMOKE = 40  # texts of each split


def missing():
    """The packages that the peer lacks."""
    return [name for name in PEER if importlib.util.find_spec(name) is None]


def splits_of(folder, smoke):
    """The splits, of `--smoke` a few texts of each."""
    from ktransfer.text.entity_sources import read_entities

    found, _ = read_entities(folder)
    by_split = {name: getattr(found, name) for name in ("train", "validation", "test")}
    if smoke:
        by_split = {name: split.evenly(SMOKE) for name, split in by_split.items()}
    return by_split


def write_splits(by_split, folder):
    """One file of spans for each split."""
    for name, split in by_split.items():
        lines = [
            json.dumps(
                {
                    "text": text,
                    "spans": [{"start": s, "end": e, "label": split.class_names[k]} for s, e, k in spans],
                }
            )
            for text, spans in zip(split.inputs, split.labels, strict=True)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def of_ktransfer(method, by_split, preset, seed):
    import ktransfer

    options = {"epochs": 0} if method == "head" else {"preset": method}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        data = folder / "data"
        data.mkdir()
        write_splits(by_split, data)
        clock = stopwatch()
        run = ktransfer.train(
            data,
            str(preset),
            folder / "run",
            seed=seed,
            cache_dir=folder / "cache",
            formats=(),
            say=note,
            verbose=0,
            allow_leakage=True,  # tweets that repeat belong to the official splits
            **options,
        )
        times = clock()
        metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
        return metrics["test"], metrics["validation"], times


def of_trainer(by_split, preset, seed, epochs):
    """The usual transformers baseline: words, first-subword labels, the best epoch on validation."""
    import numpy as np
    from transformers import (
        AutoModelForTokenClassification,
        AutoTokenizer,
        DataCollatorForTokenClassification,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from ktransfer.core.task import get_task
    from ktransfer.tasks.token_classification import WordAnswers, tags_of

    set_seed(seed)
    task, names = get_task("ner"), by_split["train"].class_names
    tags = task.output_names(names)
    tokenizer = AutoTokenizer.from_pretrained(preset, do_lower_case=True)

    class Sentences:
        """Words as the file has them: what stands between spaces."""

        def __init__(self, split):
            self.split, self.words, self.rows = split, [], []
            for text, spans in zip(split.inputs, split.labels, strict=True):
                words, at = [], 0
                for word in text.split(" "):
                    words.append((at, at + len(word)))
                    at += len(word) + 1
                encoded = tokenizer(
                    [text[s:e] for s, e in words], is_split_into_words=True, truncation=True, max_length=128
                )
                owners, own = encoded.word_ids(), tags_of(spans, words)
                firsts = [owner is not None and owner != owners[i - 1] for i, owner in enumerate(owners)]
                labels = [
                    int(own[owner]) if first else -100 for owner, first in zip(owners, firsts, strict=True)
                ]
                self.words.append((words, [(i, owners[i]) for i, first in enumerate(firsts) if first]))
                self.rows.append({**encoded, "labels": labels})

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, index):
            return self.rows[index]

    data = {name: Sentences(split) for name, split in by_split.items()}

    def scores(logits, sentences):
        answers = np.empty(len(sentences), object)
        for index, (words, firsts) in enumerate(sentences.words):
            # A word beyond the window has no answer, which is no entity.
            rows = np.tile(np.eye(len(tags))[0], (len(words), 1))
            for place, word in firsts:
                rows[word] = task.probabilities(logits[index, place])
            answers[index] = WordAnswers(sentences.split.inputs[index], words, rows.astype("float32"))
        return task.evaluate(answers, sentences.split.labels, names).to_dict()

    def compute(prediction):
        return {"entity_f1": scores(prediction.predictions, data["validation"])["micro"]["f1"]}

    clock = stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            # In float32 whatever the file has: transformers 5 would train float16 weights as they are.
            AutoModelForTokenClassification.from_pretrained(preset, num_labels=len(tags)).float(),
            TrainingArguments(
                output_dir=folder,
                num_train_epochs=epochs,
                learning_rate=5e-5,
                per_device_train_batch_size=16,
                per_device_eval_batch_size=64,
                eval_strategy="epoch",
                save_strategy="epoch",
                load_best_model_at_end=True,
                metric_for_best_model="entity_f1",
                greater_is_better=True,
                report_to=[],
                seed=seed,
                disable_tqdm=True,
            ),
            train_dataset=data["train"],
            eval_dataset=data["validation"],
            data_collator=DataCollatorForTokenClassification(tokenizer),
            compute_metrics=compute,
        )
        trainer.train()
        found = {
            name: scores(trainer.predict(data[name]).predictions, data[name])
            for name in ("test", "validation")
        }
    return found["test"], found["validation"], clock()


def measure(method, seed, options):
    """Run the measured process: prints the scores on the test split and the seconds it took."""
    preset = options.backbones / BACKBONE
    if method != "trainer":  # some builds of torch and TensorFlow crash in one process
        import keras

        import ktransfer

        keras.utils.set_random_seed(seed)
        ktransfer.load_text_backbone(str(preset))  # what a first use costs once in a process is not compared
    by_split = splits_of(options.data / DATA, options.smoke)
    if method == "trainer":
        test, validation, times = of_trainer(by_split, preset, seed, options.epochs)
    else:
        test, validation, times = of_ktransfer(method, by_split, preset, seed)
    found = {
        "entity_f1": test["micro"]["f1"],
        "precision": test["micro"]["precision"],
        "recall": test["micro"]["recall"],
        "validation_f1": validation["micro"]["f1"],
        **times,
    }
    print(json.dumps(found))


def table(measured):
    """One row for each method: means and deviations over the seeds."""
    import numpy as np

    rows = []
    for method in dict.fromkeys(key[0] for key in measured):
        seeds = [value for key, value in measured.items() if key[0] == method]
        found = {"method": method, "seeds": len(seeds)}
        for score in ("entity_f1", "precision", "recall", "validation_f1", "seconds", "cpu_seconds"):
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
    parser.add_argument(
        "--epochs", type=int, default=5, help="of the peer (default: 5, as many as balanced has)"
    )
    parser.add_argument("--results", type=Path, default=Path("token_classification.jsonl"))
    parser.add_argument("--smoke", action="store_true", help="a few texts, only to see that it works")
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
            command += [
                "--once",
                method,
                str(seed),
                "--epochs",
                str(options.epochs),
                *["--smoke"] * options.smoke,
            ]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                note(f"{method} seed {seed}: failed")
                continue
            found = {"method": method, "seed": seed} | json.loads(done.stdout.splitlines()[-1])
            measured[method, seed] = found
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
    report(table(measured), methods=methods, seeds=options.seeds, epochs=options.epochs, smoke=options.smoke)


if __name__ == "__main__":
    main()
