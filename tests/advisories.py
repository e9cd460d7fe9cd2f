"""Is anything that requirements.lock installs known to be vulnerable? Told by a snapshot, without a network.

`make advisories` writes the snapshot, advisories.json, as pip-audit has it. Of a package that pip-audit could
not look up the snapshot says so, and that counts as not looked at.
"""

import json
import re
import sys
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
LOCK, SNAPSHOT = ROOT / "requirements.lock", ROOT / "advisories.json"
# Advisories that do not concern ktransfer, each with the reason.
ACCEPTED: dict[str, str] = {}


def locked(lock):
    """`{(name, version)}` of what a lock installs in this environment.

    Example:
        >>> locked("numpy==2.4.6 ; python_version < '4'")
        {('numpy', '2.4.6')}
    """
    lines = re.findall(r"^[a-z0-9][^\\\n]*", lock, re.MULTILINE)
    requirements = [Requirement(line) for line in lines]
    return {
        (found.name, str(found.specifier).removeprefix("=="))
        for found in requirements
        if found.marker is None or found.marker.evaluate()
    }


def problems(lock, snapshot, accepted=ACCEPTED):
    """What speaks against a lock, a line each.

    Args:
        lock: The text of requirements.lock.
        snapshot: What `pip-audit --format json` wrote of it.
        accepted: Advisories that are known and do no harm here.

    Example:
        >>> problems("a==1", {"dependencies": []})
        ['a 1 is not in the snapshot']
    """
    rows = {(row["name"], row["version"]): row["vulns"] for row in snapshot["dependencies"] if "vulns" in row}
    skipped = {row["name"] for row in snapshot["dependencies"] if "vulns" not in row}
    found = []
    for name, version in sorted(locked(lock)):
        if (name, version) not in rows:
            why = "could not be looked up" if name in skipped else "is not in the snapshot"
            found.append(f"{name} {version} {why}")
        for advisory in rows.get((name, version), ()):
            if not {advisory["id"], *advisory.get("aliases", ())} & accepted.keys():
                mended = ", ".join(advisory.get("fix_versions", ())) or "no version yet"
                found.append(f"{name} {version}: {advisory['id']}, mended in {mended}")
    return found


if __name__ == "__main__":
    lines = problems(LOCK.read_text(encoding="utf-8"), json.loads(SNAPSHOT.read_text(encoding="utf-8")))
    print(*lines or ["nothing is known against what is locked"], sep="\n")  # noqa: T201
    sys.exit(bool(lines))
