"""`ktransfer verify` and `ktransfer benchmark`."""

import sys
from functools import partial
from typing import Annotated

import typer

from ktransfer.cli.options import AsJson, RunFolder
from ktransfer.terminal import print_benchmark, print_json, print_line, quiet_imports


def verify(
    run: RunFolder,
    no_answers: Annotated[
        bool,
        typer.Option("--no-answers", help="Compare no answers, as where the data of the run is not at hand."),
    ] = False,
    as_json: AsJson = False,
):
    """Check a run's artefacts: sha256, labels, inputs and outputs, and answers; 1 if anything differs."""
    from ktransfer.jobs.checks import check_run

    check_run(run, model=not no_answers, artefacts=True)
    with quiet_imports():
        from ktransfer.jobs.verify import verify as verify_run
        from ktransfer.run import Run
    found = verify_run(Run.load(run), answers=not no_answers, say=partial(print_line, stderr=as_json))
    if as_json:
        print_json(found.to_dict())
    if not found.ok:
        raise typer.Exit(1)


def benchmark(
    run: RunFolder,
    threads: Annotated[
        int | None, typer.Option(min=1, help="For each runtime; one for each core if left out.")
    ] = None,
    examples: Annotated[
        int, typer.Option(min=1, help="Most validation examples to answer for the accuracy.")
    ] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed, in turn.")] = 10,
    as_json: AsJson = False,
):
    """Measure a run's artefacts beside Keras: size, accuracy, latency, throughput; writes benchmark.json."""
    from ktransfer.jobs.checks import check_run

    check_run(run, artefacts=True)
    with quiet_imports():
        from ktransfer.jobs.benchmark import benchmark as benchmark_run
        from ktransfer.run import Run
    options = {"threads": threads, "examples": examples, "rounds": rounds, "verbose": sys.stdout.isatty()}
    found = benchmark_run(Run.load(run), **options)
    if as_json:
        print_json(found.to_dict())
        return
    print_benchmark(found)
    print_line(f"written to {run / 'benchmark.json'}")
