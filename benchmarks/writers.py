"""Print how many rows per second of CPU time each format writes with 1,000 labels."""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

import numpy as np

from clipcls.columns import Columns
from clipcls.options import OutputFormat
from clipcls.outputs import make_writer
from clipcls.records import Prediction

ROWS, BATCH = 5_000, 64


def main() -> None:
    """Measure every format."""
    labels = tuple(f"label {i}" for i in range(1_000))
    scores = np.random.default_rng(0).dirichlet(np.ones(1_000), ROWS).astype(np.float32)
    rows = [
        Prediction(i, f"folder/{i:06}.jpg", labels, labels[0], float(p[0]), p, p, p)
        for i, p in enumerate(scores)
    ]
    for output_format in OutputFormat:
        # What it imports for the first row is not writing.
        make_writer(output_format, Columns(labels), io.BytesIO()).write(rows[:1])
        with tempfile.TemporaryDirectory() as folder:
            partial = Path(folder) / "out.part"
            began = time.process_time()
            with partial.open("w+b") as stream:
                writer = make_writer(output_format, Columns(labels), stream)
                writer.start()
                for start in range(0, ROWS, BATCH):
                    writer.write(rows[start : start + BATCH])
            written = time.process_time()
            writer.finish(partial, Path(folder) / "out", ROWS)
            done = time.process_time()
        print(  # noqa: T201
            f"{output_format:8} {ROWS / (written - began):7.0f} rows/s written,"
            f" {ROWS / (done - began):7.0f} rows/s to the end"
        )


if __name__ == "__main__":
    main()
