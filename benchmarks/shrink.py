"""Measure distillation and pruning: students with and without a teacher, and pruned runs, paired by seed.

    python benchmarks/shrink.py texts --labels 150 --unlabelled 300 --seeds 0 1
    python benchmarks/shrink.py images --labels 100 --seeds 0 --student efficientnet_lite0_imagenet
    python benchmarks/shrink.py texts --only plain taught --latency --work /tmp/shrink --results texts.jsonl

Each seed draws its own labelled, unlabelled and test examples, and trains a teacher on the labelled ones. `plain` is
the student trained on the labels alone; `taught` is the same student with the same recipe and labels, and with the
teacher's answers, on the unlabelled examples too. `pruned` keeps half of each group, or with `--multiply-adds` that
share of the backbone's multiply-adds; `naive` the same by the size of weights without fine-tuning, but with its head
solved anew. The test examples are read by none of them.

What a row of `--results` has already is not measured again, and with `--work` a run that was killed goes on. With
`--latency` every model is timed in turn with the teacher, one example on one thread, as ONNX and as TFLite.
"""

import argparse
import contextlib
import csv
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from ktransfer.commands.artifacts import artifacts, fixed_axes, validation_examples
from ktransfer.commands.benchmark import Contender, middle_input, timed_in_turn
from ktransfer.commands.distill import distill
from ktransfer.commands.export import export
from ktransfer.commands.prune import prune
from ktransfer.commands.train import resume, train
from ktransfer.image.augmentation import Augmentation
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.manifest import is_run
from ktransfer.runs.run import Run
from ktransfer.text.augmentation import TextAugmentation

SHARED = Path(__file__).resolve().parents[2] / "shared"
TEACHERS = {"texts": "minilm_l6_h384_uncased", "images": "resnet50_v2_3stage_imagenet"}
TIMED = ("onnx", "tflite")
ROUNDS = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=TEACHERS)
    parser.add_argument("--labels", type=int, default=150)
    parser.add_argument("--unlabelled", type=int, default=300)
    parser.add_argument("--test", type=int, default=400, help="examples that nothing is trained on")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--teacher", help="a folder of ../shared/backbones")
    parser.add_argument("--student", default="mobilenet_v2_100_imagenet", help="the same, of images")
    parser.add_argument("--layers", type=int, default=3, help="of the student of texts")
    parser.add_argument(
        "--multiply-adds", type=float, help="share that pruning keeps, in place of half of each group"
    )
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--weight", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=["plain", "taught", "pruned", "naive"])
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--results", type=Path, help="JSON lines, one a model and seed")
    parser.add_argument("--work", type=Path, help="folder of the runs, kept for the next call")
    options = parser.parse_args()
    rows = known_rows(options)
    for seed in options.seeds:
        wanted = [name for name in ("teacher", *options.only) if key_of(options, seed, name) not in rows]
        if not wanted:
            continue
        with contextlib.ExitStack() as stack:
            folder = options.work and options.work / key_of(options, seed, "runs")
            folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.mkdir(parents=True, exist_ok=True)
            for row in measured(options, seed, folder, wanted):
                print(json.dumps(row), flush=True)
                rows[row["key"]] = row
                if options.results:
                    with options.results.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    summarize(options, rows)


def key_of(options, seed, name):
    """A text that tells a row from others."""
    facts = [
        options.kind,
        options.labels,
        options.unlabelled,
        options.test,
        options.epochs,
        options.image_size,
    ]
    facts += [options.teacher, options.student, options.layers, options.multiply_adds]
    if name == "taught":
        facts += [options.temperature, options.weight]
    return "-".join(map(str, [*facts, options.latency, seed, name]))


def known_rows(options):
    """The rows that a file has already, by their key."""
    if not options.results or not options.results.is_file():
        return {}
    return {row["key"]: row for row in map(json.loads, options.results.read_text().splitlines())}


def summarize(options, rows):
    """Print the mean of each model, and its difference from `plain` and from the teacher by seed."""
    found = {
        name: [rows[key_of(options, seed, name)] for seed in options.seeds]
        for name in ("teacher", *options.only)
    }
    for name, of_model in found.items():
        scores = np.array([row["accuracy"] for row in of_model])
        line = f"{name:8} accuracy {scores.mean():.4f} over {len(scores)} seeds: {scores.tolist()}"
        for other in ("teacher", "plain"):
            if other in found and name not in ("teacher", other):
                pairs = scores - [row["accuracy"] for row in found[other]]
                error = pairs.std(ddof=1) / np.sqrt(len(pairs)) if len(pairs) > 1 else float("nan")
                line += f"; minus {other} {100 * pairs.mean():+.2f} points (standard error {100 * error:.2f})"
        for format in TIMED:
            ratios = [row["speedup"][format] for row in of_model if row.get("speedup", {}).get(format)]
            if ratios:
                line += f"; {format} {np.mean(ratios):.2f} times as fast as the teacher"
        print(line)


def measured(options, seed, folder, wanted):
    """Yield a row for each wanted model of one seed."""
    data, unlabelled, inputs, labels = draw(options, seed, folder)
    quiet = {"formats": (), "verbose": 0, "say": lambda line: None}
    sized = {"image_size": options.image_size} if options.kind == "images" else {}
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
    backbone = SHARED / "backbones" / (options.teacher or TEACHERS[options.kind])

    def made(name, make):
        """A run that is there, or goes on, or is made."""
        path = folder / name
        if is_run(path) and Run.load(path).manifest["status"] == "trained":
            return Run.load(path)
        if name == "teacher" and is_run(path) and (path / "model.keras").is_file():
            return resume(path, formats=(), verbose=0, say=lambda line: None)
        return make(path)

    teacher = made(
        "teacher", lambda path: train(data, backbone, path, recipe=recipe, overwrite=True, **sized, **quiet)
    )
    own = (
        {"layers": options.layers}
        if options.kind == "texts"
        else {"backbone": SHARED / "backbones" / options.student, "image_size": options.image_size}
    )
    common = {"recipe": recipe, "report": False, **quiet}
    taught = {"unlabelled": unlabelled, "temperature": options.temperature, "weight": options.weight}
    target = {"keep": 0.5} if options.multiply_adds is None else {"multiply_adds": options.multiply_adds}
    unfit = common | {"recipe": Recipe(stages=(), augmentation=recipe.augmentation, seed=seed)}
    models = {
        "teacher": lambda path: teacher,
        "plain": lambda path: distill(teacher.path, path, weight=0.0, **own, **common),
        "taught": lambda path: distill(teacher.path, path, **taught, **own, **common),
        "pruned": lambda path: prune(teacher.path, path, **target, unlabelled=unlabelled, **common),
        "naive": lambda path: prune(
            teacher.path, path, **target, importance="magnitude", weight=0.0, **unfit
        ),
    }
    for name in wanted:
        run = made(name, models[name])
        answers = run.predict_probabilities(inputs).argmax(axis=1)
        names = [run.labels[index] for index in answers]
        yield {
            "key": key_of(options, seed, name),
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
            **({"speedup": speedups(teacher, run)} if options.latency and name != "teacher" else {}),
        }


def speedups(teacher, run):
    """The speed of a run's files over that of the teacher's, one example on one thread, in turn."""
    found = {}
    for format in TIMED:
        with contextlib.ExitStack() as stack:
            entered, inputs = [], []
            for each in (teacher, run):
                if format not in [entry["format"] for entry in each.manifest.get("artifacts", [])]:
                    export(each, [format], say=lambda line: None)
                artifact = next(one for one in artifacts(each) if one.format == format)
                fixed = fixed_axes(artifact)
                given = (each, format, artifact.path, artifact.size_bytes, fixed)
                entered.append(stack.enter_context(Contender(*given, threads=1)))
                inputs.append(middle_input(each, each.preprocessing.pieces(validation_examples(each))))
            larger, smaller = (
                np.median(seconds, axis=1) for seconds in timed_in_turn(entered, inputs, rounds=ROUNDS)
            )
        found[format] = round(float(np.median(larger / smaller)), 3)
    return found


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
            if not target.exists():  # of an earlier call
                shutil.copy(file, target)
    return (
        folder / "labelled",
        folder / "unlabelled",
        list(map(str, parts[2])),
        [file.parent.name for file in parts[2]],
    )


if __name__ == "__main__":
    main()
