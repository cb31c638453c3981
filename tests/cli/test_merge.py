"""`classify --shard` and `clipcls merge`: what is said, and the exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Invoke

ASKED = ("--labels", "red,green,blue,yellow", "--model", "fast", "-t", "<>", "--no-cache")


@pytest.fixture
def parts(
    invoke: Invoke, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Path]:
    """Three shards, as three tasks of a SLURM array write them."""
    (colours / "broken.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    for name, value in (("MIN", 0), ("MAX", 2), ("COUNT", 3), ("STEP", 1)):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    codes = []
    for task in range(3):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        result = invoke("classify", "pictures", *ASKED, "--shard", "slurm", "-o", f"p-{task}.csv")
        assert f"Shard {task + 1}/3\n" in result.stderr
        codes.append(result.exit_code)
    assert sorted(codes) == [0, 0, 3]
    return sorted(tmp_path.glob("p-*"))


def test_the_merged_output_counts_all_and_is_used_like_any_other(
    invoke: Invoke, parts: list[Path], tmp_path: Path
) -> None:
    assert len(parts) == 6
    merged = invoke("merge", "out.csv", *parts)
    assert merged.exit_code == 3
    assert merged.stdout == ""
    assert "empty file" in merged.stderr
    assert "Done: 7 scored, 1 failed" in merged.stderr
    # The variables of the array are still set, and mean nothing.
    whole = invoke("classify", "pictures", *ASKED, "-o", "whole.csv", "-q")
    assert whole.exit_code == 3
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
    resumed = invoke("classify", "pictures", *ASKED, "-o", "out.csv", "--resume")
    assert "8 rows kept from before" in resumed.stderr
    truth = tmp_path / "truth.csv"
    truth.write_text("path,label\n0-red.png,red\n1-green.png,green\n2-blue.png,red\n")
    evaluated = invoke("evaluate", "--predictions", "out.csv", truth, "--json")
    assert '"accuracy"' in evaluated.stdout
    assert invoke("sort", "out.csv", "sorted", "-q").exit_code == 0
    assert (tmp_path / "sorted" / "red" / "0-red.png").exists()


def test_every_problem_is_a_line_and_nothing_is_written(invoke: Invoke, parts: list[Path]) -> None:
    Path("p-0.csv").rename("p-0.csv.part")
    Path("p-0.csv.manifest.json").rename("p-0.csv.part.manifest.json")
    result = invoke("merge", "out.csv", "p-0.csv.part", "p-2.csv", "p-2.csv", "none.csv")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "Error: p-0.csv.part is not finished: run that shard again with --resume",
        "Error: shard 3/3 is there twice: p-2.csv and p-2.csv",
        "Error: none.csv: no such file",
        "Error: shard 2 of 3 is missing",
    ]
    assert not Path("out.csv").exists()


def test_there_are_not_more_than_twenty_lines(invoke: Invoke) -> None:
    result = invoke("merge", "out.csv", *(f"none-{i}\n.csv" for i in range(30)))
    lines = result.stderr.splitlines()
    assert len(lines) == 21
    assert lines[0] == "Error: none-0\\n.csv: no such file"
    assert lines[-1] == "Error: and 10 problems more"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--shard", "0/3", "-o", "x.csv"), "there is no shard 0/3: they count from 1/3"),
        (("--shard", "3", "-o", "x.csv"), "--shard is '3': give i/n"),
        (("--shard", "1/3"), "--shard needs its rows in a file"),
        (("--shard", "slurm", "-o", "x.csv"), "SLURM_ARRAY_TASK_ID, which is ''"),
    ],
)
def test_a_slip_is_said_before_anything_is_done(
    invoke: Invoke,
    colours: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    result = invoke("classify", colours, *ASKED, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not Path("x.csv").exists()
