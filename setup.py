"""What setup.cfg cannot say: the wheel has the deployment kit, `export/`, as the folder `kit` of the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

KIT = Path(__file__).parent / "export"


class BuildWithKit(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "ktransfer", "kit")
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(KIT, target, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))


setup(cmdclass={"build_py": BuildWithKit})
