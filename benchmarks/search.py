"""Gain of a search over the default, and agreement of a ranking of backbones with their training.

python benchmarks/search.py [DATA [BACKBONES]] [--rows flowers/resnet snips:500] [--seeds 0 1 2] [--what search rank]
                            [--trials 20] [--results FILE]

One measurement is one of these on one row (a data set and a backbone) with one seed, which splits the data anew, in
a subprocess. `default`: the run of the preset `balanced`, its accuracy on the test files and its seconds.
`search`: 20 trials, and the same of the run that they end in. `rank`: the cross-validated loss of each candidate (cuts
of the shared backbones at several depths), and the seconds. `full:NAME`: the accuracy of a candidate that is trained.
The table has the ratio of the seconds, the difference of the accuracies, and Spearman's correlation between ranking and
training. Results are appended to a file, and what is there is not measured again, so that the table can be filled in
several sittings.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import quality
from harness import SHARED, note, refuse, report

SEARCHED = ("flowers/mobilenet", "brain_mri/lite0", "snips:500/minilm", "goemotions:1000/minilm")
RANKED = ("flowers", "brain_mri", "snips:500")
# At least eight candidates for each kind of data.
SHARES = {"images": (0.4, 0.7, 1.0), "texts": (0.12, 0.25, 0.38, 0.5, 0.62, 0.75, 0.88, 1.0)}
WHAT = ("search", "rank")


def candidates(data):
    """Names of the candidates of a data set: `BACKBONE@SHARE`."""
    names = ("mobilenet", "lite0", "resnet") if data in quality.IMAGES else ("minilm",)
    shares = SHARES["images" if data in quality.IMAGES else "texts"]
    return [f"{name}@{share:g}" for name in names for share in shares]


def preset(candidate, backbones):
    """The name of a candidate as `train` takes it."""
    name, _, share = candidate.partition("@")
    return f"{backbones / quality.BACKBONES[name]}" + (f"@{share}" if share not in ("", "1") else "")


def jobs(what, rows):
    """Row and measurement of everything that is to be measured."""
    for row in rows:
        data, _, name = row.partition("/")
        if name and "search" in what:
            yield from ((row, measurement) for measurement in ("default", "search"))
        if not name and "rank" in what:
            yield row, "rank"
            yield from ((row, f"full:{each}") for each in candidates(data))


def measure(row, what, seed, options):
    """Print what one measurement found as JSON."""
    data, _, name = row.partition("/")
    size = quality.IMAGES.get(data, 0)
    reading = {"image_size": size} if size else {}
    import keras

    import ktransfer

    keras.utils.set_random_seed(seed)
    with tempfile.TemporaryDirectory() as work:
        folder, out = Path(work) / "data", Path(work) / "out"
        folder.mkdir()
        (quality.write_images if size else quality.write_texts)(data, options.data, folder, seed)
        shared = {"cache_dir": Path(work) / "cache", "seed": seed, "say": note, "verbose": 0, **reading}
        start = time.perf_counter()
        if what == "search":
            backbone = preset(name, options.backbones)
            run = ktransfer.search(folder, backbone, out, trials=options.trials, formats=(), **shared)
        elif what == "rank":
            names = {preset(each, options.backbones): each for each in candidates(data)}
            ranking = ktransfer.rank(folder, list(names), train_best=0, latency=False, **shared)
            found = {names[each.name]: each.loss for each in ranking.candidates}
            print(json.dumps({"losses": found, "seconds": round(time.perf_counter() - start, 1)}))
            return
        else:
            backbone = preset(what.partition(":")[2] or name, options.backbones)
            run = ktransfer.train(folder, backbone, out, formats=(), **shared)
        seconds = time.perf_counter() - start
        metrics = run.manifest["metrics"]
    found = {"accuracy": metrics["test"], "validation": metrics["validation"], "seconds": round(seconds, 1)}
    print(json.dumps(found))


def table(measured):
    """One row for each data set: of the search its cost and its gain, of the ranking Spearman's correlation."""
    import numpy as np
    from scipy.stats import spearmanr

    rows = []
    for row in dict.fromkeys(key[0] for key in measured):
        found = {"row": row}
        seeds = sorted({key[2] for key in measured if key[0] == row})
        gains, costs, correlations = [], [], []
        for seed in seeds:
            default, searched = (measured.get((row, what, seed)) for what in ("default", "search"))
            if default and searched:
                gains.append(searched["accuracy"] - default["accuracy"])
                costs.append(searched["seconds"] / default["seconds"])
            ranking = measured.get((row, "rank", seed))
            full = {
                key[1][5:]: value
                for key, value in measured.items()
                if key[::2] == (row, seed) and ":" in key[1]
            }
            names = [each for each in full if ranking and each in ranking["losses"]]
            if len(names) >= 8:
                losses = [-ranking["losses"][each] for each in names]
                correlations.append(spearmanr(losses, [full[each]["accuracy"] for each in names]).statistic)
        if gains:
            found |= {
                "gain": float(np.mean(gains)),
                "lowest_gain": float(min(gains)),
                "cost": float(np.mean(costs)),
            }
        if correlations:
            found |= {"spearman": float(np.mean(correlations)), "lowest_spearman": float(min(correlations))}
        rows.append({**found, "seeds": len(gains) or len(correlations)})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, default=SHARED / "data", help="default: ../shared/data")
    parser.add_argument(
        "backbones", nargs="?", type=Path, default=SHARED / "backbones", help="default: ../shared/backbones"
    )
    parser.add_argument(
        "--rows", nargs="+", choices=(*SEARCHED, *RANKED), default=(*SEARCHED, *RANKED), metavar="ROW"
    )
    parser.add_argument("--what", nargs="+", choices=WHAT, default=WHAT)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--results", type=Path, default=Path("search.jsonl"))
    parser.add_argument(
        "--once", nargs=3, metavar=("ROW", "WHAT", "SEED"), help="what a measured process does"
    )
    options = parser.parse_args()
    if options.once:
        row, what, seed = options.once
        measure(row, what, int(seed), options)
        return
    for folder in (options.data, options.backbones):
        if not folder.is_dir():
            refuse(f"Expected a folder of data and one of backbones, got {folder}. Pass others.")
    measured = {}
    if options.results.is_file():
        for line in options.results.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            measured[found["row"], found["what"], found["seed"]] = found
    for seed in options.seeds:
        for row, what in jobs(options.what, options.rows):
            if (row, what, seed) in measured:
                continue
            command = [sys.executable, __file__, str(options.data), str(options.backbones)]
            command += ["--trials", str(options.trials), "--once", row, what, str(seed)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=False)
            if done.returncode:
                note(f"{row} {what} {seed} failed")
                continue
            found = {"row": row, "what": what, "seed": seed, **json.loads(done.stdout.splitlines()[-1])}
            measured[row, what, seed] = found
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            note(json.dumps(found))
    report(table(measured), trials=options.trials)


if __name__ == "__main__":
    main()
