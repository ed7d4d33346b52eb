"""The fuzzer itself: its targets on a few inputs each; it counts, and tells what it finds."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

pytestmark = pytest.mark.filterwarnings("ignore")
INPUTS = 300
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - {"stores"}))
def test_targets(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds:
        target.run(seed)
    for number in range(INPUTS):
        rng = random.Random(f"{name} {number}")
        data = rng.choice(target.seeds)
        for _ in range(rng.choice([1, 2, 4])):
            data = target.change(rng, data)
        try:
            target.run(data)
        except Exception as error:
            raise AssertionError(f"{name} {number}: {error!r}, {data!r}") from error


def fuzz(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments, "--folder", folder],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_the_fuzzer_counts(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "3", "web pages")
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "all"
    assert int(last[2]) > 0
    assert last[-1] == "0"


def test_the_fuzzer_tells_what_it_finds(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "4", "images", "--break", "images")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "images: finding 1:" in done.stdout
    assert "AssertionError" in (tmp_path / "images/finding-1.txt").read_text()
    assert list((tmp_path / "images").glob("crash-*"))
