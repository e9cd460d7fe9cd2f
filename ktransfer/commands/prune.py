"""`ktransfer prune`: a run with fewer channels, heads and feed-forward units, trained with the run as its teacher."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ktransfer.commands.checks import check_free_or_begun
from ktransfer.commands.costs import artifact_latency, measure_export
from ktransfer.commands.prunable import COSTS, Prunable, Pruning, largest
from ktransfer.commands.splits import Say
from ktransfer.commands.taught import Taught
from ktransfer.commands.train_options import TrainOptions
from ktransfer.errors import RecipeError, listed
from ktransfer.exporting.export_model import FORMATS, check_formats
from ktransfer.models.network import Network
from ktransfer.pruning.importance import CRITERIA
from ktransfer.pruning.pruned import require_loadable
from ktransfer.recipes.recipe import Recipe
from ktransfer.recipes.targets import parse_latency
from ktransfer.runs.exported import exported
from ktransfer.runs.run import Run
from ktransfer.utils.terminal import print_line

_RESOLUTION = {"latency": 0.03}  # of the share to keep; each try is an export


def prune(
    source: str | Path,
    out: str | Path,
    *,
    keep: float | None = None,
    multiply_adds: float | None = None,
    parameters: float | None = None,
    latency: str | float | None = None,
    threads: int = 1,
    importance: str = "taylor",
    steps: int = 1,
    unlabelled: str | Path | None = None,
    temperature: float = 2.0,
    weight: float = 0.5,
    text_column: str | None = None,
    encoding: str | None = None,
    recipe: Recipe | None = None,
    options: TrainOptions | None = None,
    formats: Sequence[str] = FORMATS,
    overwrite: bool = False,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    report: bool = True,
    say: Say = print_line,
    verbose: int | str = 1,
    **changes: Any,
) -> Run:
    """Remove the least important channels, heads and feed-forward units of a run, and train on what is left.

    The network of the new run is smaller, not masked, and an ordinary Keras model. It is trained as by `distill`, with
    the run it came from as the teacher.

    Args:
        source: The run folder.
        out: The run folder to make.
        keep: Share of each group of units to keep, above 0 and below 1. Defaults to `None`, which is 0.5 where no
            target is given.
        multiply_adds: Keep as much as costs at most this share of the multiply-adds of the backbone. Defaults to
            `None`.
        parameters: The same of its parameters. Defaults to `None`.
        latency: Keep as much as answers one example within this time in the runtime of the exported file: a text such
            as `"5ms"`, or milliseconds. The file is that of the only format in `formats`, or of TFLite where these
            are all. Defaults to `None`.
        threads: Of that runtime. Defaults to 1.
        importance: Which units stay: `"taylor"`, the first-order change of the loss, or `"magnitude"`, the size of
            the weights. Defaults to `"taylor"`.
        steps: Prune and train so many times, each by the same factor. Defaults to 1.
        unlabelled, temperature, weight, text_column, encoding, recipe, options, formats: As in `distill`.
        overwrite, cache, cache_dir, report, say, verbose: As in `distill`.
        **changes: Fields of `TrainOptions`.

    Returns:
        The `Run`.

    Raises:
        KTransferError: The run is not trained, nothing in its backbone can be removed, or a target is out of reach;
            then the smallest network is trained and kept in a folder whose name ends in `.best`.

    Example:

        ktransfer.prune("runs/flowers", "runs/smaller", keep=0.5)
        ktransfer.prune("runs/flowers", "runs/smaller", multiply_adds=0.5, steps=2)
        ktransfer.prune("runs/flowers", "runs/smaller", latency="5ms", formats=["tflite"])

    Source: Molchanov et al. 2019, "Importance estimation for neural network pruning"; dependencies as in Fang et al.
    2023, "DepGraph", section 3.2.
    """
    options = TrainOptions.of(options, changes)
    formats = check_formats(formats)
    targets = {"keep": keep, "multiply_adds": multiply_adds, "parameters": parameters}
    given = {name: value for name, value in {**targets, "latency": latency}.items() if value is not None}
    check_targets(given, importance, steps)
    [(cost, target)] = given.items() or [("keep", 0.5)]
    timed = timed_format(formats, threads) if cost == "latency" else ""
    taught = Taught.of(
        source,
        out,
        unlabelled=unlabelled,
        temperature=temperature,
        weight=weight,
        text_column=text_column,
        encoding=encoding,
        recipe=recipe,
        options=options,
        overwrite=overwrite,
        cache=cache,
        cache_dir=cache_dir,
        say=say,
        verbose=verbose,
    )
    taught.warn_of_refit()
    teacher, splits = taught.teacher, taught.read[0]
    command = taught.command(
        "prune",
        {
            f"--{cost.replace('_', '-')}": target,
            **({"--threads": threads} if timed else {}),
            **{"--importance": importance, "--steps": steps},
        },
    )

    def measure(found: Pruning) -> float:
        if cost != "latency":
            return found.share(cost)
        took, _ = measure_export(
            found.model,
            teacher.preprocessing,
            splits.require_validation(),
            timed,
            threads=threads,
            calibration=splits.train,
        )
        say(f"measured   {found.keep:.0%} of each group: {took:.2f} ms as {timed}")
        return took

    limit = parse_latency(target) if cost == "latency" else float(target)
    prunable = Prunable(teacher, splits, importance=importance)
    nearest = ""
    if cost == "keep":
        found = prunable.to(limit)
    else:
        found, least = largest(prunable.to, measure, limit, resolution=_RESOLUTION.get(cost, 0.01))
        if least > limit:
            out = Path(f"{out}.best")
            nearest = f"{least:.3g}{' ms' if cost == 'latency' else ' of what it was'}"
            check_free_or_begun(out, overwrite=overwrite)
            say(f"out of reach  {cost.replace('_', '-')} of {target}; the smallest network is kept in {out}")
    require_loadable(found.model)
    whole, before = found.keep, (found.parameters[0], found.multiply_adds[0])
    earlier: list[Path] = []
    run = teacher
    for step in range(1, steps + 1):
        last = step == steps
        folder = Path(out) if last else Path(f"{out}.step{step}")
        if not last:
            earlier.append(folder)
        if steps > 1:
            prunable = Prunable(run, splits, importance=importance)
            part = whole ** (1 / steps)
            if last and cost in COSTS and not nearest:
                left = before[0 if cost == "parameters" else 1] * limit
                now = prunable.to(1.0)
                share = min(1.0, left / getattr(now, cost)[0])
                found, _ = prunable.within(cost, share)
            else:
                found = prunable.to(part)
        say(f"pruned     {found.line()}")
        facts = {
            "source": str(teacher.path),
            "importance": importance,
            "steps": steps,
            "keep": whole,
            "parameters": [before[0], found.parameters[1]],
            "multiply_adds": [before[1], found.multiply_adds[1]],
        }
        # A step that the same command has trained is taken as it is.
        run = taught.train(
            folder,
            f"{teacher.manifest.get('backbone', {}).get('name', 'backbone')}, pruned",
            network=pruned_network(teacher, found),
            facts={"pruning": facts},
            command=f"{command} --step {step}" if not last else command,
            formats=formats if last else (),
            report=report and last,
        )
    for folder in earlier:
        shutil.rmtree(folder, ignore_errors=True)
    if timed:
        took = _latency_of(run, timed, threads, measure, found)
        run.update(
            pruning=run.manifest["pruning"] | {"latency_ms": took, "format": timed, "threads": threads}
        )
        say(
            f"latency    {took:.2f} ms as {timed} on {threads} thread{'s' * (threads != 1)}, wanted {limit:g} ms"
        )
    taught.compared(run, "result")
    if nearest:
        raise RecipeError(
            f"Expected a target for {cost.replace('_', '-')} that can be reached, got {target}; the smallest network, "
            f"with {whole:.0%} of each group, has {nearest} and is kept in {out}. Pass that or more, or distill to a "
            "smaller backbone."
        )
    return run


def pruned_network(source: Run, found: Pruning) -> Network:
    """A pruned classifier as what `train_on` trains.

    Args:
        source: The run that it was made from.
        found: From `Prunable`.

    Example:

        pruned_network(run, Prunable(run, splits).to(0.5))
    """
    facts = {
        name: value
        for name, value in source.manifest.get("backbone", {}).items()
        if name not in ("name", "layer", "parameters", "random_weights")
    }
    return Network(
        found.model, source.preprocessing, facts, source.modality.reads(source.preprocessing.to_dict())
    )


def timed_format(formats: Sequence[str], threads: int) -> str:
    """The format whose file a target of latency is of.

    Args:
        formats: What is exported.
        threads: Of its runtime.

    Raises:
        RecipeError: It is one of several, or the threads are none.

    Example:
        >>> timed_format(["onnx"], 1)
        'onnx'
    """
    if threads < 1:
        raise RecipeError(f"Expected at least one thread, got {threads!r}. Pass such as 1.")
    if len(formats) > 1 and tuple(formats) != FORMATS:
        raise RecipeError(
            f"Expected one format whose latency is the target, got {listed(formats)}. Export the others afterwards."
        )
    chosen = formats[0] if len(formats) == 1 else "tflite"
    check_formats([chosen])
    return chosen


def _latency_of(
    run: Run, format: str, threads: int, measure: Callable[[Pruning], float], found: Pruning
) -> float:
    """The latency of the run's own file, or where it was not exported that of the network."""
    for artifact in exported(run.path, run.manifest) if run.manifest.get("artifacts") else ():
        if artifact.format == format:
            return artifact_latency(run, artifact, threads=threads)
    return measure(found)


def check_targets(given: Mapping[str, Any], importance: str, steps: int) -> None:
    """Raise `RecipeError` for what no network can be pruned to.

    Args:
        given: Targets by the name of the argument of `prune`.
        importance: As in `prune`.
        steps: As in `prune`.

    Example:
        >>> check_targets({"keep": 0.5}, "taylor", 1)
    """
    if len(given) > 1:
        raise RecipeError(f"Expected one target of pruning, got {listed(given)}. Leave the others out.")
    for name, value in given.items():
        if name == "latency":
            parse_latency(value)
        elif not 0 < value < 1:
            raise RecipeError(
                f"Expected {name} as a share above 0 and below 1, got {value!r}. Pass such as 0.5."
            )
    if importance not in CRITERIA:
        raise RecipeError(
            f"Expected the importance {' or '.join(CRITERIA)}, got {importance!r}. Pass one of them."
        )
    if not 1 <= steps <= 20:
        raise RecipeError(f"Expected from 1 to 20 steps of pruning, got {steps!r}. Pass such as 3.")
