"""One run in several: which images belong to which shard.

An image belongs to a shard by its path alone, so no shard needs the others or the length of the
list, and an image stays where it is when others come or go. Equal paths stay together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from clipcls.errors import OptionError

SLURM = "slurm"
"""In place of a shard: take it from the variables of a SLURM array."""

_ARRAY = "SLURM_ARRAY_TASK_"


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the parts of a list of images.

    Attributes:
        number: Which, from 1.
        of: How many there are.

    Raises:
        OptionError: There is no such part.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise OptionError(f"there is no shard {self}: they count from 1/{self.of}")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, path: str) -> bool:
        """Whether the image of this path belongs here."""
        return shard_of(path, self.of) == self


def shard_of(path: str, of: int) -> Shard:
    """Return which of so many shards the image of this path belongs to."""
    digest = blake2b(os.fsencode(path), digest_size=8).digest()
    return Shard(int.from_bytes(digest, "little") % of + 1, of)


def parse_shard(text: str, environment: Mapping[str, str] = os.environ) -> Shard:
    """Return the shard that `3/8` names, or that SLURM's variables name for `slurm`.

    Raises:
        OptionError: It names none.
    """
    if text == SLURM:
        return _of_array(environment)
    found = re.fullmatch(r"([0-9]{1,5})/([1-9][0-9]{0,4})", text)
    if not found:
        raise OptionError(
            f"--shard is '{text}': give i/n (1/8 to 8/8 for eight shards), or {SLURM}"
        )
    return Shard(int(found[1]), int(found[2]))


def _of_array(environment: Mapping[str, str]) -> Shard:
    """Return the shard of a task; only a whole array says how many there are.

    Raises:
        OptionError: This is no task of an array, or of a part of one, such as `--array=3,7`.
    """
    found: dict[str, int] = {}
    for name in ("ID", "MIN", "MAX", "COUNT"):
        value = environment.get(_ARRAY + name, "")
        if not re.fullmatch("[0-9]{1,9}", value):
            raise OptionError(
                f"--shard {SLURM} needs {_ARRAY}{name}, which is '{value}': submit with"
                " sbatch --array=1-8, or give --shard i/n"
            )
        found[name] = int(value)
    step = environment.get(_ARRAY + "STEP", "1")
    tasks = range(found["MIN"], found["MAX"] + 1, int(step) if step.isdecimal() else 1)
    # Some tasks submitted again alone would pass for an array of their own.
    if found["MIN"] > 1 or len(tasks) != found["COUNT"] or found["ID"] not in tasks:
        raise OptionError(
            f"--shard {SLURM} needs a whole array from 0 or 1, and this one has"
            f" {found['COUNT']} of the tasks {found['MIN']} to {found['MAX']}: give --shard i/n"
        )
    return Shard(tasks.index(found["ID"]) + 1, len(tasks))
