"""Collect the contents of a run's report as plain values for the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ktransfer.data.examples import Splits, printable
from ktransfer.evaluation.metrics import Answers
from ktransfer.models.blocks import find_blocks
from ktransfer.models.freezing import resolve_depth
from ktransfer.models.locate import find_backbone
from ktransfer.reporting import plots
from ktransfer.reporting.examples import explained, worst_answers
from ktransfer.reporting.history import Trained, read_history, trained_stages
from ktransfer.reporting.rationale import is_default, reasons
from ktransfer.runs.run import Run

if TYPE_CHECKING:
    from ktransfer.evaluation.calibration import Calibration


def contents(run: Run, splits: Splits, answers: dict[str, Answers]) -> dict[str, Any]:
    """Everything that the page shows.

    Numbers are of the test split where there is one, and which examples are shown are of the validation split
    in any case: a test split that is looked into is none for long.

    Args:
        run: Trained.
        splits: Its data.
        answers: From `evaluate_splits`.

    Returns:
        The names that `page.html` has.

    Example:

        render(contents(run, splits, answers))
    """
    split = list(answers)[-1]
    validation, task = answers["validation"], run.task
    examples = validation.examples
    hits = task.hits(task.decide(validation.probabilities, run.decision), examples.labels)
    return {
        "title": printable(run.path.resolve().name),
        "created": run.manifest["created"][:10],
        "noun": splits.train.noun,
        "wide": run.modality.wide_cards,
        "split": split,
        "task": task,
        "result": answers[split].evaluation,
        "of_task": task.report(answers[split].evaluation, splits.train.counts()),
        "data": _data(run, splits),
        "network": _network(run),
        "training": _training(run),
        "calibrations": {
            name: _calibration(found, *reliability)
            for name, found in answers.items()
            if (reliability := task.reliability(found.evaluation)) is not None
        },
        "worst": worst_answers(validation, run.decision),
        "wrong": int((hits < 1).sum()),
        "explained": explained(run, validation),
        "artifacts": run.manifest.get("artifacts", []),
        "reproduce": _reproduce(run),
    }


def stages_of(run: Run) -> tuple[list[dict[str, Any]], list[Trained], list[str]]:
    """The history's rows, the stages that were trained, and the names of the backbone's blocks from the top.

    Example:

        rows, stages, blocks = stages_of(run)
    """
    blocks = find_blocks(find_backbone(run.model))
    depths = [resolve_depth(stage.depth, blocks) for stage in run.recipe.stages]
    rows = read_history(run.path / "history.csv")
    return rows, trained_stages(rows, run.recipe.stages, depths), [block.name for block in blocks]


def _data(run: Run, splits: Splits) -> dict[str, Any]:
    facts = run.manifest["data"]
    present = {name: split for name in ("train", "validation", "test") if (split := getattr(splits, name))}
    counts = {name: split.counts() for name, split in present.items()}
    return {
        "source": printable(facts["source"]),
        "totals": {name: len(split) for name, split in present.items()},
        "classes": [(label, [counts[name][label] for name in counts]) for label in run.labels],
        "fingerprint": facts["fingerprint"],
        "excluded": facts.get("exclude"),
    }


def _network(run: Run) -> dict[str, Any]:
    facts, read = run.manifest["backbone"], run.manifest["preprocessing"]
    return {
        "name": facts["name"],
        "parameters": facts["parameters"],
        "random_weights": facts.get("random_weights", False),
        "reads": run.modality.reads(read),
    }


def _training(run: Run) -> dict[str, Any]:
    rows, stages, blocks = stages_of(run)
    head, recipe, decision = run.manifest.get("head", {}), run.recipe, run.manifest.get("decision", {})
    steps = math.ceil(run.manifest["data"]["examples"]["train"] / recipe.batch_size)
    start = head.get("validation") if recipe.head == "solve" else None
    drawn, watched = [], f"val_{run.task.score}"
    if rows:
        drawn = [
            plots.curve(rows, stages, "loss"),
            plots.curve(rows, stages, run.task.score, start=start),
            plots.rates(rows, stages, len(blocks), steps=steps),
        ]
    return {
        "blocks": len(blocks),
        "preset": run.manifest.get("preset"),
        "decision": decision,
        "second_arm": any(each.get("zero_head") for each in decision.get("candidates", ())),
        "default": is_default(recipe, run.manifest["data"]["examples"]["train"]),
        "reasons": reasons(recipe, head),
        "stages": [_stage(trained, blocks) for trained in stages],
        "start": start,
        "best": max((row[watched] for row in rows if watched in row), default=None),
        "plots": list(map(Markup, drawn)),
        "recipe": recipe.to_json(),
        "trouble": run.manifest.get("trouble", []),
    }


def _stage(trained: Trained, blocks: Sequence[str]) -> dict[str, Any]:
    peak = trained.stage.learning_rate or 0.0  # a recipe's stages have one
    lowest = peak * trained.stage.rates(len(blocks))[trained.depth - 1] if trained.depth else None
    return {
        "index": trained.index,
        "epochs": trained.epochs,
        "planned": trained.stage.epochs,
        "trains": f"the head and {trained.depth} of {len(blocks)} blocks" if trained.depth else "the head",
        "down_to": blocks[trained.depth - 1] if trained.depth else "",
        "rate": f"{peak:.3g}",
        "lowest": f"{lowest:.3g}" if lowest else "",
        "schedule": trained.stage.schedule,
    }


def _calibration(
    answers: Answers, as_trained: Calibration, scaled: Calibration, cross_fitted: bool
) -> dict[str, Any]:
    drawn = [
        plots.reliability(as_trained.reliability, "as trained"),
        plots.reliability(scaled.reliability, "after temperature scaling"),
    ]
    return {
        "evaluation": answers.evaluation,
        "before": as_trained,
        "after": scaled,
        "cross_fitted": cross_fitted,
        "temperature": answers.evaluation.fitted["temperature"],
        "confidence": answers.examples.task.confidence(answers.probabilities),
        "plots": list(map(Markup, drawn)),
    }


def _reproduce(run: Run) -> dict[str, Any]:
    return {
        "command": run.manifest.get("reproduce", {}).get("command"),
        "seed": run.recipe.seed,
        "versions": run.manifest.get("versions", {}),
        "machine": run.manifest.get("machine", {}),
    }
