"""Texts or images a second of `ktransfer predict --out`, next to a loop over `Run.predict`, in turn in one process.

python benchmarks/batch_predict.py RUN SHARD.parquet --examples 1024 --rounds 2
"""

import argparse
import io
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from ktransfer.commands.batch_engines import fastest
from ktransfer.commands.batch_predict import predict_batch
from ktransfer.commands.predict import batch_columns
from ktransfer.runs.run import Run


def main():
    """Measure both, and print the ratio of each round as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("shard", type=Path)
    parser.add_argument("--field", default="text", help="that a loop is given; images as the hub has them")
    parser.add_argument("--examples", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32, help="examples in a call of Run.predict")
    parser.add_argument("--artifact", help="the fastest, found beforehand, if left out")
    options = parser.parse_args()
    run = Run.load(options.run)
    table = pq.read_table(options.shard).slice(0, options.examples)
    given = table[options.field].to_pylist()
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder) / "some.parquet"
        pq.write_table(table, shard)
        contents = [io.BytesIO(each["bytes"]) if isinstance(each, dict) else each for each in given]
        if isinstance(given[0], dict):  # `Run.predict` takes files
            for at, each in enumerate(given):
                (Path(folder) / f"{at}.image").write_bytes(each["bytes"])
            given = [Path(folder) / f"{at}.image" for at in range(len(given))]
        engine = options.artifact or fastest(run, contents, print).name
        loop(run, given[: 4 * options.batch], options.batch)  # compiles
        batch = partial(predict_batch, run, [str(shard)], columns=batch_columns(run, text_column=None))
        for turn in range(options.rounds):
            loop_s = spent(lambda: loop(run, given, options.batch))
            out = Path(folder) / f"{turn}.parquet"
            batch_s = spent(lambda out=out: batch(out, artifact=engine, say=lambda line: None))
            found = {"loop_per_s": len(given) / loop_s["wall"], "batch_per_s": len(given) / batch_s["wall"]}
            ratios = {
                "ratio": loop_s["wall"] / batch_s["wall"],
                "ratio_of_cpu": loop_s["cpu"] / batch_s["cpu"],
            }
            print(json.dumps({**found, **ratios, "engine": engine}), flush=True)


def spent(work):
    """Seconds that it takes: on the clock, and of all cores, which other work on the machine changes less."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def loop(run, given, batch):
    """The way without `--out`: a list of examples, a batch at a time."""
    for begin in range(0, len(given), batch):
        run.predict(given[begin : begin + batch])


if __name__ == "__main__":
    main()
