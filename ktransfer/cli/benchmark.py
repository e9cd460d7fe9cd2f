"""`ktransfer benchmark`."""

import sys
from typing import Annotated

import typer

from ktransfer.cli.options import AsJson, RunFolder
from ktransfer.utils.terminal import print_benchmark, print_json, print_line, quiet_imports


def benchmark(
    run: RunFolder,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each runtime; one for each core if left out.")
    ] = None,
    examples: Annotated[
        int, typer.Option(min=1, help="Maximum number of validation examples for the accuracy.")
    ] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="Number of timing rounds, in turn.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Compare a run's artifacts with Keras: size, accuracy, latency, throughput; writes benchmark.json."""
    from ktransfer.commands.checks import check_run

    check_run(run, artifacts=True)
    with quiet_imports():
        from ktransfer.commands.benchmark import benchmark as benchmark_run
        from ktransfer.runs.run import Run
    found = benchmark_run(
        Run.load(run), threads=threads, examples=examples, rounds=rounds, verbose=sys.stdout.isatty()
    )
    if as_json:
        print_json(found.to_dict())
        return
    print_benchmark(found)
    print_line(f"written to {run / 'benchmark.json'}")
