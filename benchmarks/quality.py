"""Accuracy and time of ktransfer's presets and of what people do by hand, on many data sets and seeds.

python benchmarks/quality.py [DATA [BACKBONES]] [--rows flowers/resnet sms_spam:500] [--methods balanced full-1e-4]
                             [--seeds 0 1 2] [--results FILE]

One measurement is one method on one row (a data set and a backbone) with one seed, in a subprocess.
For a seed all methods read the same training, validation and test files. Everything that a method chooses
(weights, epochs, learning rates) it chooses on the validation files; what is reported is the accuracy on the
test files. Imports are not counted. What is measured is appended to the results file and not measured again,
so that the table can be filled in several sittings.

The methods: `head` is the solved head alone, `fast`, `balanced` and `best` are the presets of ktransfer.
`full-LR` is plain Keras: every layer trains, AdamW with a warmup and cosine decay, flips (images), eight
epochs, the epoch that is best on validation. `guide` is keras.io/guides/transfer_learning: five epochs of a
new head at 1e-3, two epochs of everything at 1e-5. `trainer-LR` is the Trainer of Hugging Face, four epochs.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import SHARED, note, refuse, report, stopwatch

BATCH = 32
BACKBONES = {
    "mobilenet": "mobilenet_v2_100_imagenet",
    "lite0": "efficientnet_lite0_imagenet",
    "resnet": "resnet50_v2_3stage_imagenet",
    "minilm": "minilm_l6_h384_uncased",
}
# Pixels a side of each set of images; of texts the rows for training, 0 for all of them.
IMAGES = {"flowers": 160, "brain_mri": 128, "drawings": 96, "camvid_car": 160, "camvid_pole": 160}
TEXTS = {
    **{"sms_spam:500": 500, "sms_spam": 0, "snips:500": 500, "snips": 0},
    **{"goemotions:100": 100, "goemotions:1000": 1_000},
}
ROWS = [f"{data}/{name}" for data in IMAGES for name in ("mobilenet", "lite0", "resnet")]
ROWS += [f"{data}/minilm" for data in TEXTS]
PRESETS = ("fast", "balanced", "best")
ON_IMAGES = ("head", *PRESETS, "full-1e-4", "full-5e-4", "guide")
ON_TEXTS = ("head", *PRESETS, "full-5e-5", "full-1e-4", "trainer-5e-5", "trainer-1e-4")
EPOCHS, TRAINER_EPOCHS = 8, 4


def image_splits(data, shared, folder):
    """Training, validation and test image files of a data set, by class; test files are not split by seed."""
    if data == "drawings":
        from ktransfer.demo.drawing import write_target_task

        write_target_task(folder, train_per_class=60, validation_per_class=40)
        return {"train": _by_class(folder / "train"), "test": _by_class(folder / "val")}
    if data.startswith("camvid_"):
        source, tag, by_split = shared / "camvid_tags", data.removeprefix("camvid_"), {}
        for name in ("train", "test", "val"):
            with (source / f"{name}.csv").open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    label = "yes" if tag in row["labels"].split("|") else "no"
                    classes = by_split.setdefault("test" if name == "val" else "train", {})
                    classes.setdefault(label, []).append(source / row["file"])
        return by_split
    source = shared / data
    test = source / ("test" if (source / "test").is_dir() else "val")
    by_split = {"train": _by_class(source / "train"), "test": _by_class(test)}
    excluded = _excluded(source, folder) if data == "brain_mri" else set()
    return {
        name: {label: [f for f in files if f not in excluded] for label, files in classes.items()}
        for name, classes in by_split.items()
    }


def _excluded(source, folder):
    """The files that `ktransfer audit --fix` leaves out: files that are repeated or contradict each other."""
    from ktransfer.audit.exclusions import read_exclusions
    from ktransfer.commands.audit import audit

    audit(source, out=folder / "audit", fix=True)
    return {source / key for key in read_exclusions(folder / "audit" / "exclude.txt")}


def _by_class(folder):
    return {
        label.name: sorted(f for f in label.rglob("*") if f.is_file())
        for label in sorted(folder.iterdir())
        if label.is_dir()
    }


def write_images(data, shared, folder, seed):
    """Lay the files of a seed out as train/, val/ and test/; a fifth of training is for validation."""
    with tempfile.TemporaryDirectory() as work:
        by_split = image_splits(data, shared, Path(work))
        shuffle = random.Random(seed).shuffle
        for label, files in by_split["train"].items():
            files = list(files)
            shuffle(files)
            held = max(1, len(files) // 5)
            named = {"val": files[:held], "train": files[held:], "test": by_split["test"].get(label, [])}
            for split, chosen in named.items():
                target = folder / split / label
                target.mkdir(parents=True)
                for file in chosen:
                    shutil.copy(file, target / file.name)


def write_texts(data, shared, folder, seed):
    """The same as CSV files: a fifth of the rows is for testing where the data has no such split."""
    rows = TEXTS[data]
    name = data.partition(":")[0]
    shuffle = random.Random(seed).shuffle
    if name == "sms_spam":
        lines = (shared / "sms_spam" / "SMSSpamCollection").read_text(encoding="utf-8").splitlines()
        training = [line.split("\t", 1)[::-1] for line in lines]
        training = list(
            {" ".join(text.casefold().split()): (text, label) for text, label in training}.values()
        )
        random.Random(0).shuffle(training)
        test, training = training[:1_000], training[1_000:]
    else:
        files = {"snips": ("train", "validation"), "goemotions": ("train", "test")}[name]
        training, test = (_read(shared / name / f"{file}.csv") for file in files)
        counts = {}
        for _, label in training:
            counts[label] = counts.get(label, 0) + 1
        # Of goemotions the rows with one label; a class needs examples to learn from.
        kept = {label for label, count in counts.items() if "|" not in label and count >= 20}
        training, test = ([row for row in split if row[1] in kept] for split in (training, test))
        held = {text.casefold() for text, _ in test}
        training = [row for row in training if row[0].casefold() not in held]
    shuffle(training)
    if rows:
        training = _stratified(training, rows * 5 // 4, least=3)
    held = _stratified(training, len(training) // 5, least=1)
    chosen = set(map(tuple, held))
    rest = [row for row in training if tuple(row) not in chosen]
    for split, found in (("train", rest), ("val", held), ("test", test)):
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *found])


def _stratified(rows, count, *, least):
    """So many of the rows, each class by its share and at least `least` of each."""
    classes = {}
    for row in rows:
        classes.setdefault(row[1], []).append(row)
    chosen = [
        row
        for found in classes.values()
        for row in found[: max(least, round(count * len(found) / len(rows)))]
    ]
    order = {tuple(row): index for index, row in enumerate(rows)}
    return sorted(chosen, key=lambda row: order[tuple(row)])


def _read(path):
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        label = "labels" if "labels" in reader.fieldnames else "label"
        return [(row["text"], row[label]) for row in reader]


def ktransfer_preset(method, folder, preset, size, seed):
    import ktransfer

    options = {"epochs": 0} if method == "head" else {"preset": method}
    if size:
        options["image_size"] = size
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
            **options,
        )
        scores = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    chosen = run.manifest.get("decision", {}).get("chosen")
    return scores["test"]["accuracy"], {"chosen": chosen} if chosen else {}


def keras_images(method, folder, preset, size, seed):
    """Plain Keras on images; preprocessing is right, by the preset's own converter."""
    import keras
    import keras_hub

    splits = [
        keras.utils.image_dataset_from_directory(
            folder / split,
            image_size=(size, size),
            crop_to_aspect_ratio=True,
            batch_size=BATCH,
            shuffle=split == "train",
            seed=seed,
            verbose=False,
        )
        for split in ("train", "val", "test")
    ]
    classes = len(splits[0].class_names)
    training, validation, test = (split.cache().prefetch(2) for split in splits)
    converter = keras_hub.layers.ImageConverter.from_preset(str(preset))
    backbone = keras_hub.models.Backbone.from_preset(str(preset))
    images = keras.Input((size, size, 3))
    pixels = images if method == "guide" else keras.layers.RandomFlip("horizontal", seed=seed)(images)
    features = backbone(keras.layers.Rescaling(converter.scale, converter.offset)(pixels), training=False)
    outputs = keras.layers.Dense(classes)(keras.layers.GlobalAveragePooling2D()(features))
    model = keras.Model(images, outputs)
    if method == "guide":
        _keras_guide(keras, model, backbone, training, validation)
    else:
        _keras_full(keras, model, training, validation, float(method.removeprefix("full-")))
    return model.evaluate(test, verbose=0, return_dict=True)["accuracy"], {}


def _keras_guide(keras, model, backbone, training, validation):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for trainable, rate, epochs in ((False, 1e-3, 5), (True, 1e-5, 2)):
        backbone.trainable = trainable
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        model.fit(training, validation_data=validation, epochs=epochs, verbose=0)


def _keras_full(keras, model, training, validation, rate):
    steps = len(training) * EPOCHS
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 10, warmup_target=rate, warmup_steps=max(1, steps // 10)
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    with tempfile.TemporaryDirectory() as folder:
        best = keras.callbacks.ModelCheckpoint(
            f"{folder}/best.weights.h5", monitor="val_accuracy", save_best_only=True, save_weights_only=True
        )
        model.fit(training, validation_data=validation, epochs=EPOCHS, callbacks=[best], verbose=0)
        model.load_weights(f"{folder}/best.weights.h5")


def keras_texts(method, folder, preset, size, seed):
    """Plain keras-hub on texts: every layer trains; the tokens are as many as 95 of 100 texts have."""
    import keras
    import keras_hub
    import numpy as np

    by_split = {name: _read(folder / f"{name}.csv") for name in ("train", "val", "test")}
    names = sorted({label for _, label in by_split["train"]})
    tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(str(preset))
    lengths = sorted(len(tokenizer(text)) for text, _ in by_split["train"])
    tokens = int(lengths[int(0.95 * len(lengths))]) + 2
    classifier = keras_hub.models.BertTextClassifier(
        keras_hub.models.Backbone.from_preset(str(preset)),
        num_classes=len(names),
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=tokens),
    )
    import tensorflow as tf

    data = {}
    for name, rows in by_split.items():
        texts = [text for text, _ in rows]
        labels = np.array([names.index(label) for _, label in rows])
        data[name] = tf.data.Dataset.from_tensor_slices((texts, labels))
        if name == "train":
            data[name] = data[name].shuffle(len(rows), seed=seed)
        data[name] = data[name].batch(BATCH)
    _keras_full(keras, classifier, data["train"], data["val"], float(method.removeprefix("full-")))
    return classifier.evaluate(data["test"], verbose=0, return_dict=True)["accuracy"], {}


def hugging_face(method, folder, preset, size, seed):
    """The Trainer of Hugging Face, its linear decay, the epoch that is best on validation."""
    import numpy as np
    import transformers

    transformers.set_seed(seed)
    by_split = {name: _read(folder / f"{name}.csv") for name in ("train", "val", "test")}
    names = sorted({label for _, label in by_split["train"]})
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(preset))
    # In float32 whatever the file has: transformers 5 would train float16 weights as they are, slowly on a processor.
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        str(preset), num_labels=len(names)
    ).float()

    class Rows:
        def __init__(self, rows):
            self.encoded = tokenizer([text for text, _ in rows], truncation=True, max_length=128)
            self.labels = [names.index(label) for _, label in rows]

        def __len__(self):
            return len(self.labels)

        def __getitem__(self, index):
            return {key: values[index] for key, values in self.encoded.items()} | {
                "labels": self.labels[index]
            }

    with tempfile.TemporaryDirectory() as out:
        trainer = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(
                out,
                num_train_epochs=TRAINER_EPOCHS,
                learning_rate=float(method.removeprefix("trainer-")),
                per_device_train_batch_size=BATCH,
                per_device_eval_batch_size=64,
                eval_strategy="epoch",
                save_strategy="epoch",
                load_best_model_at_end=True,
                metric_for_best_model="accuracy",
                weight_decay=0.01,
                warmup_ratio=0.1,
                seed=seed,
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=Rows(by_split["train"]),
            eval_dataset=Rows(by_split["val"]),
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
        )
        with contextlib.redirect_stdout(sys.stderr):
            trainer.train()
            answers = trainer.predict(Rows(by_split["test"])).predictions.argmax(-1)
    truth = np.array([names.index(label) for _, label in by_split["test"]])
    return float((answers == truth).mean()), {}


def measure(row, method, seed, shared, backbones):
    """Run the measured process: prints the accuracy on the test files and the seconds it took."""
    data, name = row.split("/")
    preset, size = backbones / BACKBONES[name], IMAGES.get(data, 0)
    if method.startswith("trainer-"):
        run = hugging_face
    elif method == "head" or method in PRESETS:
        run = ktransfer_preset
    else:
        run = keras_images if size else keras_texts
    if run is hugging_face:
        import transformers  # noqa: F401
    else:
        import keras

        import ktransfer

        keras.utils.set_random_seed(seed)
        load = ktransfer.load_backbone if size else ktransfer.load_text_backbone
        load(str(preset))  # what a first use costs once in a process is not compared
    with tempfile.TemporaryDirectory() as folder:
        (write_images if size else write_texts)(data, shared, Path(folder), seed)
        clock = stopwatch()
        accuracy, more = run(method, Path(folder), preset, size, seed)
        times = clock()
    print(json.dumps({"accuracy": accuracy, **times, **more}))


def table(measured):
    """One row for each data set and backbone: of each method the mean, the deviation and the seconds."""
    import numpy as np

    rows = []
    for row in dict.fromkeys(key[0] for key in measured):
        found = {"row": row}
        for method in (*ON_IMAGES, *(m for m in ON_TEXTS if m not in ON_IMAGES)):
            seeds = [value for key, value in measured.items() if key[:2] == (row, method)]
            if seeds:
                accuracies = [value["accuracy"] for value in seeds]
                found[method] = round(float(np.mean(accuracies)), 4)
                found[f"{method}_sd"] = (
                    round(float(np.std(accuracies, ddof=1)), 4) if len(seeds) > 1 else None
                )
                for kind in ("seconds", "cpu_seconds"):
                    times = [value[kind] for value in seeds if kind in value]
                    found[f"{method}_{kind}"] = round(float(np.mean(times)), 1) if times else None
                found["seeds"] = max(found.get("seeds", 0), len(seeds))
        rows.append(found)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, default=SHARED / "data", help="default: ../shared/data")
    parser.add_argument(
        "backbones", nargs="?", type=Path, default=SHARED / "backbones", help="default: ../shared/backbones"
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, metavar="ROW")
    parser.add_argument("--methods", nargs="+", default=[], metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--results", type=Path, default=Path("quality.jsonl"))
    parser.add_argument(
        "--once", nargs=3, metavar=("ROW", "METHOD", "SEED"), help="what a measured process does"
    )
    options = parser.parse_args()
    if options.once:
        row, method, seed = options.once
        measure(row, method, int(seed), options.data, options.backbones)
        return
    known = {*ON_IMAGES, *ON_TEXTS}
    if unknown := set(options.methods) - known:
        refuse(f"Expected Methods of {', '.join(sorted(known))}, got {', '.join(sorted(unknown))}.")
    measured = {}
    if options.results.is_file():
        for line in options.results.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            measured[found["row"], found["method"], found["seed"]] = found
    for row in options.rows:
        methods = ON_IMAGES if row.split("/")[0] in IMAGES else ON_TEXTS
        for seed in options.seeds:
            for method in methods:
                if (options.methods and method not in options.methods) or (row, method, seed) in measured:
                    continue
                command = [sys.executable, __file__, str(options.data), str(options.backbones)]
                command += ["--once", row, method, str(seed)]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    reason = (done.stderr.strip().splitlines() or ["no reason"])[-1]
                    note(f"{row}, {method}, seed {seed}: not measured ({reason})")
                    continue
                found = {
                    "row": row,
                    "method": method,
                    "seed": seed,
                    **json.loads(done.stdout.splitlines()[-1]),
                }
                measured[row, method, seed] = found
                with options.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
                note(f"{row}, {method}, seed {seed}: {found['accuracy']:.4f}, {found['seconds']:.0f} s")
    report(table(measured), batch_size=BATCH, epochs=EPOCHS)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
