"""Which image belongs to which shard, and how a shard is named."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcls.errors import OptionError
from clipcls.shards import Shard, parse_shard

PATHS = st.binary(min_size=1).map(lambda data: data.decode("utf-8", "surrogateescape"))


@given(path=PATHS, of=st.integers(1, 50))
def test_an_image_is_in_one_shard(path: str, of: int) -> None:
    assert sum(Shard(number, of).has(path) for number in range(1, of + 1)) == 1


def test_shards_are_of_about_one_size_whatever_the_names() -> None:
    paths = [f"images/{i // 100:03d}/{i:07d}.jpg" for i in range(8_000)]
    sizes = Counter(number for p in paths for number in range(1, 9) if Shard(number, 8).has(p))
    # A binomial count of 1,000 has a deviation of 30.
    assert all(abs(size - 1_000) < 150 for size in sizes.values())


def test_the_split_is_the_same_for_ever() -> None:
    """Rows that were written by another version or machine stay where they are."""
    names = ("a.jpg", "b.jpg", "c/ü.jpg", "\udcff.png")
    found = [[number for number in range(1, 9) if Shard(number, 8).has(name)] for name in names]
    assert found == [[7], [7], [8], [4]]


@pytest.mark.parametrize("text", ["1/1", "1/8", "8/8", "99999/99999"])
def test_a_shard_is_named_by_number_and_count(text: str) -> None:
    assert str(parse_shard(text)) == text


@pytest.mark.parametrize("text", ["", "3", "0/8", "9/8", "-1/8", "1/0", "1/8/2", "a/b", "1 / 8",
                                  "1/100000", "1/8\n", "\u0661/8", "SLURM"])  # fmt: skip
def test_what_names_no_shard_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="shard"):
        parse_shard(text)


def array(task: int, tasks: list[int], step: int = 1) -> dict[str, str]:
    """The variables of one task of `sbatch --array=...`."""
    values = {"ID": task, "MIN": min(tasks), "MAX": max(tasks), "COUNT": len(tasks), "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("first", "last", "step"), [(0, 7, 1), (1, 8, 1), (0, 14, 2), (1, 1, 1), (1, 15, 7)]
)
def test_a_whole_array_is_all_shards(first: int, last: int, step: int) -> None:
    tasks = list(range(first, last + 1, step))
    shards = [parse_shard("slurm", array(task, tasks, step)) for task in tasks]
    assert shards == [Shard(number, len(tasks)) for number in range(1, len(tasks) + 1)]


@pytest.mark.parametrize(("task", "tasks"), [(3, [3]), (3, [3, 7]), (1, [1, 2, 5]), (5, [5, 6])])
def test_a_part_of_an_array_is_refused(task: int, tasks: list[int]) -> None:
    with pytest.raises(OptionError, match="needs a whole array .* give --shard i/n"):
        parse_shard("slurm", array(task, tasks))


@pytest.mark.parametrize("name", ["ID", "MIN", "MAX", "COUNT"])
@pytest.mark.parametrize("value", [None, "", "x", "-1"])
def test_without_an_array_it_says_what_is_missing(name: str, value: str | None) -> None:
    variables = array(1, [1, 2])
    variables.pop(f"SLURM_ARRAY_TASK_{name}")
    if value is not None:
        variables[f"SLURM_ARRAY_TASK_{name}"] = value
    with pytest.raises(OptionError, match=f"SLURM_ARRAY_TASK_{name}, which is"):
        parse_shard("slurm", variables)


def test_variables_that_are_only_inherited_change_nothing() -> None:
    assert parse_shard("2/3", array(1, [1, 2])) == Shard(2, 3)
