"""The ONNX server against its own OpenAPI document, by requests that schemathesis invents."""

import shutil
import subprocess

import pytest
from onnx_server_runs import image_run, serving, text_run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("make_run", "options"), [(image_run, {}), (text_run, {}), (text_run, {"thresholds": [0.6, 0.7]})]
)
def test_schemathesis_finds_no_fault(make_run, options, tmp_path):
    program = shutil.which("schemathesis")
    if program is None:
        pytest.skip("schemathesis is not installed: install it in an environment of its own, on the PATH")
    with serving(make_run(tmp_path / "run", **options)) as (client, _):
        command = [
            program,
            "run",
            f"http://127.0.0.1:{client.base_url.port}/openapi.json",
            "--checks",
            "all",
            "--no-color",
        ]
        command += ["--max-examples", "40", "--seed", "1"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr
    assert "No issues found" in done.stdout
