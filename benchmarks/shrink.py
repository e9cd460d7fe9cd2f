"""Measure distillation and pruning: students with and without a teacher, and pruned runs, paired by seed.

    python benchmarks/shrink.py texts --labels 150 --unlabelled 300 --seeds 0 1
    python benchmarks/shrink.py images --labels 100 --seeds 0

Each seed draws its own labelled, unlabelled and test examples, and trains a teacher on the labelled ones. `plain` is
the student trained on the labels alone; `taught` is the same student with the same recipe and labels, and with the
teacher's answers, on the unlabelled examples too. `pruned` keeps half of each group, `naive` the same by the size of
weights without fine-tuning, but with its head solved anew. The test examples are read by none of them.
"""

import argparse
import csv
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from ktransfer.commands.distill import distill
from ktransfer.commands.prune import prune
from ktransfer.commands.train import train
from ktransfer.image.augmentation import Augmentation
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.text.augmentation import TextAugmentation

SHARED = Path(__file__).resolve().parents[2] / "shared"
TEACHERS = {"texts": "minilm_l6_h384_uncased", "images": "resnet50_v2_3stage_imagenet"}
IMAGE_SIZE = 128


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=TEACHERS)
    parser.add_argument("--labels", type=int, default=150)
    parser.add_argument("--unlabelled", type=int, default=300)
    parser.add_argument("--test", type=int, default=400, help="examples that nothing is trained on")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=["plain", "taught", "pruned", "naive"])
    parser.add_argument("--results", type=Path, help="JSON lines, one a model and seed")
    options = parser.parse_args()
    rows = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            for row in measured(options, seed, Path(folder)):
                print(json.dumps(row), flush=True)
                rows.append(row)
                if options.results:
                    with options.results.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    for name in dict.fromkeys(row["model"] for row in rows):
        scores = [row["accuracy"] for row in rows if row["model"] == name]
        print(f"{name:8} accuracy {np.mean(scores):.4f} over {len(scores)} seeds: {scores}")


def measured(options, seed, folder):
    """Yield a row for each model of one seed."""
    data, unlabelled, inputs, labels = draw(options, seed, folder)
    quiet = {"formats": (), "verbose": 0, "say": lambda line: None}
    sized = {"image_size": IMAGE_SIZE} if options.kind == "images" else {}
    recipe = Recipe(
        stages=(
            Stage(
                depth="all",
                epochs=options.epochs,
                learning_rate=3e-4,
                warmup=0.5,
                schedule="linear",
                lowest_rate=0.3,
            ),
        ),
        augmentation=Augmentation.none() if options.kind == "images" else TextAugmentation(),
        final_weights="interpolated",
        seed=seed,
    )
    backbone = SHARED / "backbones" / TEACHERS[options.kind]
    teacher = train(data, backbone, folder / "teacher", recipe=recipe, **sized, **quiet)
    own = (
        {"layers": 3}
        if options.kind == "texts"
        else {"backbone": SHARED / "backbones" / "mobilenet_v2_100_imagenet", "image_size": IMAGE_SIZE}
    )
    common = {"recipe": recipe, "report": False, **quiet}
    models = {
        "teacher": lambda: teacher,
        "plain": lambda: distill(teacher.path, folder / "plain", weight=0.0, **own, **common),
        "taught": lambda: distill(teacher.path, folder / "taught", unlabelled=unlabelled, **own, **common),
        "pruned": lambda: prune(teacher.path, folder / "pruned", keep=0.5, unlabelled=unlabelled, **common),
        "naive": lambda: prune(
            teacher.path,
            folder / "naive",
            keep=0.5,
            importance="magnitude",
            weight=0.0,
            **(common | {"recipe": Recipe(stages=(), augmentation=recipe.augmentation, seed=seed)}),
        ),
    }
    for name in ("teacher", *options.only):
        run = models[name]()
        answers = run.predict_probabilities(inputs).argmax(axis=1)
        names = [run.labels[index] for index in answers]
        row = {
            "kind": options.kind,
            "seed": seed,
            "labels": options.labels,
            "unlabelled": options.unlabelled,
            "model": name,
            "accuracy": round(
                float(np.mean([one == other for one, other in zip(names, labels, strict=True)])), 4
            ),
            "test": len(labels),
            "parameters": run.model.count_params(),
        }
        yield row


def draw(options, seed, folder):
    """`(labelled data, unlabelled data, test inputs, their labels)` of one seed, without an example in two of them."""
    random = np.random.default_rng(seed)
    sizes = np.cumsum([options.labels, options.unlabelled, options.test])
    if options.kind == "texts":
        with (SHARED / "data" / "snips" / "train.csv").open(encoding="utf-8", newline="") as file:
            rows = list({row["text"].casefold(): row for row in csv.DictReader(file)}.values())
        chosen = [rows[index] for index in random.permutation(len(rows))[: sizes[-1]]]
        parts = chosen[: sizes[0]], chosen[sizes[0] : sizes[1]], chosen[sizes[1] :]
        for name, part, columns in (
            ("labelled", parts[0], ["text", "label"]),
            ("unlabelled", parts[1], ["text"]),
        ):
            with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, columns, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(part)
        return (
            folder / "labelled.csv",
            folder / "unlabelled.csv",
            [row["text"] for row in parts[2]],
            [row["label"] for row in parts[2]],
        )
    files = sorted((SHARED / "data" / "flowers").glob("*/*/*.jpg"))
    chosen = [files[index] for index in random.permutation(len(files))[: sizes[-1]]]
    parts = chosen[: sizes[0]], chosen[sizes[0] : sizes[1]], chosen[sizes[1] :]
    for name, part in (("labelled", parts[0]), ("unlabelled", parts[1])):
        for number, file in enumerate(part):
            target = folder / name / (file.parent.name if name == "labelled" else "") / f"{number}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    return (
        folder / "labelled",
        folder / "unlabelled",
        list(map(str, parts[2])),
        [file.parent.name for file in parts[2]],
    )


if __name__ == "__main__":
    main()
