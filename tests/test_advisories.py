"""What is known against what is locked."""

import json

import advisories
import pytest

LOCKED = "a==1 \\\n    --hash=sha256:00\n# via\nb==2 ; python_version < '3'\nc==3 ; python_version > '3'\n"


def row(name, version, *vulns):
    return {"name": name, "version": version, "vulns": list(vulns)}


def test_a_lock_is_spoken_against_by_what_is_known_of_its_packages():
    known = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["1.1"]}
    good = {"dependencies": [row("a", "1"), row("c", "3")]}
    assert advisories.problems(LOCKED, good) == []
    bad = {"dependencies": [row("a", "1", known), row("c", "2")]}
    assert advisories.problems(LOCKED, bad) == ["a 1: PYSEC-1, mended in 1.1", "c 3 is not in the snapshot"]
    assert advisories.problems(LOCKED, bad, {"CVE-1": "not used"}) == ["c 3 is not in the snapshot"]
    skipped = {"dependencies": [row("a", "1"), {"name": "c", "skip_reason": "not found"}]}
    assert advisories.problems(LOCKED, skipped) == ["c 3 could not be looked up"]


def test_nothing_is_known_against_what_is_locked():
    if not advisories.SNAPSHOT.exists():
        pytest.skip(
            "no snapshot of advisories: `make advisories` writes one where a source of them is reached"
        )
    lock = advisories.LOCK.read_text(encoding="utf-8")
    assert advisories.problems(lock, json.loads(advisories.SNAPSHOT.read_text(encoding="utf-8"))) == []
