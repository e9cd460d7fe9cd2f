"""`ktransfer demo`: the whole way on a toy task, and what the pretrained backbone was worth in it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ktransfer.commands.train import train
from ktransfer.demo import DEMO_CLASSES, DEMO_IMAGE_SIZE, PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.runs.run import Run
from ktransfer.utils.terminal import print_line


def run_demo(
    folder: str | Path, *, say: Callable[[str], None] = print_line, verbose: int | str = 1
) -> dict[str, Any]:
    """Draw the toy task, train on it from the shipped and from a random backbone, export the former.

    Args:
        folder: Where data and both runs go; must not hold a demo yet.
        say: Callable that receives progress messages. Defaults to `print_line`, which prints them.
        verbose: Of Keras' progress, as in `keras.Model.fit`.

    Returns:
        `{"pretrained": validation accuracy, "random": validation accuracy, "run": the pretrained Run}`.

    Raises:
        RunError: There is a demo in the folder already.

    Example:

        run_demo("demo")["pretrained"]
    """
    folder = Path(folder)
    for name in ("pretrained", "random"):
        Run.check_free(folder / name)
    say(
        f"This is a toy: drawings of {', '.join(DEMO_CLASSES)}; the backbone was pretrained on drawings only."
    )
    say("The real command is:  ktransfer train FOLDER --backbone resnet_50_imagenet --out RUN\n")
    folder.mkdir(parents=True, exist_ok=True)
    data = write_target_task(folder / "data")
    say("--- from the pretrained backbone")
    run = train(
        data, str(PRESET_PATH), folder / "pretrained", image_size=DEMO_IMAGE_SIZE, say=say, verbose=verbose
    )
    say("\n--- the same recipe from a random backbone")
    rival = train(
        data,
        str(PRESET_PATH),
        folder / "random",
        image_size=DEMO_IMAGE_SIZE,
        random_weights=True,
        formats=(),
        say=say,
        verbose=verbose,
    )
    found = {
        name: r.manifest["metrics"]["validation"] for name, r in (("pretrained", run), ("random", rival))
    }
    picture = next(iter(sorted((data / "val" / DEMO_CLASSES[0]).iterdir())))
    say(
        f"\nAccuracy on images held out: {found['pretrained']:.3f} from the pretrained backbone, "
        f"{found['random']:.3f} from a random one.\n\nWhere everything is:\n"
        f"  images     {data}\n"
        f"  model      {run.path / 'model.keras'}\n"
        f"  manifest   {run.path / 'manifest.json'}"
    )
    for artifact in json.loads((run.path / "manifest.json").read_text(encoding="utf-8"))["artifacts"]:
        say(f"  {artifact['format']:<11}{run.path / artifact['path']}")
    say(f"\nTry:  ktransfer predict {run.path} {picture}")
    return {**found, "run": run}
