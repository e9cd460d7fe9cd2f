"""Lines while an int8 export works."""

import pytest

from ktransfer.commands.export import export
from ktransfer.commands.train import train
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.exporting.processes.converter_process import run_in_subprocess
from ktransfer.quantization.layer_sensitivity import choices, closest
from ktransfer.utils.progress import Progress


def test_a_stage_begins_with_a_line_and_has_one_in_five_seconds():
    lines, now = [], [0.0]
    on_progress = Progress(lines.append, "onnx-int8", clock=lambda: now[0])
    for now[0], done in ((0.0, 1), (2.0, 2), (5.0, 3), (9.9, 4), (10.0, 1_000)):
        on_progress("measuring", done, 2_000)
    on_progress("comparing", 1)
    on_progress("done")
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        *("measuring, 1 of 2,000", "measuring, 3 of 2,000", "measuring, 1,000 of 2,000"),
        *("comparing, 1 so far", "done"),
    ]


def test_each_measured_part_and_each_model_is_told():
    told = []
    choices(len, [10, 10, 10, 970], 0.1, on_progress=lambda *given: told.append(given))
    assert [(done, total) for _, done, total in told] == [(1, 3), (2, 3), (3, 3)]
    told.clear()
    closest(lambda model: 0.0, lambda share: iter("ab"), on_progress=lambda *given: told.append(given))
    assert [(done, total) for _, done, total in told] == [(1, None), (2, None)]


_REPORTS = (
    "from ktransfer.exporting.processes.converter_process import report\n"
    "report('counting', 1, 2)\nreport('done')"
)


def test_what_a_process_of_its_own_reports_is_told_and_its_answer_comes_after():
    told = []
    assert (
        run_in_subprocess(exec, _REPORTS, doing="count", on_progress=lambda *given: told.append(given))
        is None
    )
    assert told == [("counting", 1, 2), ("done", 0, None)]
    assert run_in_subprocess(eval, "6 * 7", doing="count") == 42


def test_an_error_of_who_is_told_is_raised_as_it_is():
    def broken(*given):
        raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError):
        run_in_subprocess(exec, _REPORTS, doing="count", on_progress=broken)
    assert run_in_subprocess(eval, "6 * 7", doing="count") == 42


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("progress")
    data = write_target_task(folder / "data", train_per_class=4, validation_per_class=3)
    return train(data, PRESET_PATH, folder / "run", epochs=0, formats=(), verbose=0, say=lambda line: None)


@pytest.mark.parametrize("format", ["ONNX_INT8", "TFLite-INT8"])
def test_an_int8_export_says_what_it_does_and_how_far(run, format):
    lines = []
    [artifact] = export(run, [format], say=lines.append)
    assert artifact.format == format.lower().replace("_", "-")
    assert any("measuring what each layer loses in int8, 1 of " in line for line in lines)
    assert any("comparing int8 models" in line for line in lines)
    assert any("comparing its answers" in line for line in lines)
    assert lines[-1].startswith(artifact.format)
    assert "labels agree" in lines[-1]
