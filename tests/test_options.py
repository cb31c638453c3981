"""Options are checked where they are made, and their fingerprints follow what changes results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clipcls.errors import OptionError
from clipcls.options import (
    DecodeOptions,
    Decoding,
    OutputFormat,
    OutputOptions,
    Precision,
    RuntimeOptions,
    ScoringOptions,
    Truncated,
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScoringOptions(threshold=1.5), r"--threshold is 1\.5: give a number from 0 to 1"),
        (lambda: ScoringOptions(margin=-0.1), r"--margin is -0\.1"),
        (lambda: ScoringOptions(threshold=float("nan")), "threshold is nan"),
        (lambda: DecodeOptions(max_megapixels=0), "--max-megapixels"),
        (lambda: DecodeOptions(max_megapixels=float("nan")), "--max-megapixels"),
        (lambda: RuntimeOptions(batch_size=0), "--batch-size is 0"),
        (lambda: RuntimeOptions(workers=-1), "--workers is -1"),
        (lambda: OutputOptions(top_k=0), "--top-k is 0"),
        (lambda: OutputOptions(Path("a"), overwrite=True, resume=True), "contradict"),
        (lambda: OutputOptions(resume=True), "-o FILE"),
        (lambda: OutputOptions(Path("out.xlsx")), r"extension of out\.xlsx says no format"),
        (lambda: OutputOptions(format=OutputFormat.PARQUET), r"-o FILE\.parquet"),
    ],
)
def test_wrong_values_name_the_flag(make: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "explicit", "expected"),
    [
        ("out.csv", None, OutputFormat.CSV),
        ("out.JSONL", None, OutputFormat.JSONL),
        ("out.ndjson", None, OutputFormat.JSONL),
        ("out.parquet", None, OutputFormat.PARQUET),
        ("out.txt", None, OutputFormat.CSV),
        ("out.csv", OutputFormat.JSONL, OutputFormat.JSONL),
    ],
)
def test_the_format_is_the_flag_or_the_extension(
    name: str, explicit: OutputFormat | None, expected: OutputFormat
) -> None:
    assert OutputOptions(Path(name), explicit).resolved_format is expected


def test_fingerprints_follow_what_changes_a_result() -> None:
    base = RuntimeOptions().fingerprint()
    assert RuntimeOptions(batch_size=4, workers=3, device="cpu").fingerprint() == base
    assert RuntimeOptions(precision=Precision.BF16).fingerprint() != base
    assert DecodeOptions(truncated=Truncated.ACCEPT).fingerprint() != DecodeOptions().fingerprint()
    assert DecodeOptions(decoding=Decoding.EXACT).fingerprint() != DecodeOptions().fingerprint()
    assert ScoringOptions(threshold=0.5).fingerprint() != ScoringOptions(margin=0.5).fingerprint()
