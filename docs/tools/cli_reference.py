"""Writes docs/reference/cli.md: what `ktransfer --help` and `ktransfer VERB --help` print.

python docs/tools/cli_reference.py
"""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "reference" / "cli.md"
HEAD = """# Command line

`docs/tools/cli_reference.py` makes this page from the command line itself. Errors that you can fix are one line on the
error output, and the exit status is 2.
"""
# Plain text of one width, whatever the terminal is.
PLAIN = {"TYPER_USE_RICH": "0", "COLUMNS": "80", "NO_COLOR": "1", "PYTHONUTF8": "1"}


def printed(*arguments):
    """What `ktransfer ARGUMENTS --help` prints."""
    command = [sys.executable, "-m", "ktransfer", *arguments, "--help"]
    done = subprocess.run(command, env=os.environ | PLAIN, capture_output=True, encoding="utf-8", check=True)
    lines = [line.rstrip() for line in done.stdout.replace("python -m ktransfer", "ktransfer").splitlines()]
    return "\n".join(lines).strip()


def page():
    """The whole page."""
    overview = printed()
    verbs = re.findall(r"^  ([a-z][a-z-]*)  ", overview.partition("Commands:")[2], re.MULTILINE)
    sections = [HEAD, f"```text\n{overview}\n```\n"]
    sections += [f"## ktransfer {verb}\n\n```text\n{printed(verb)}\n```\n" for verb in verbs]
    return "\n".join(sections)


def main():
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
