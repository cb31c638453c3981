"""JSON Lines: one object per picture, six decimals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from clipcls.outputs.base import SavedRow, Writer
from clipcls.records import Failure, Prediction, Record
from clipcls.text import printable_path


class JsonlWriter(Writer):
    """Keys: `path`, `prediction`, `probability`, `probabilities` or `top`, raw scores, `error`.

    What is missing is null: the scores of a failure, the `error` of a prediction.
    """

    def start(self) -> None:
        """Write nothing: JSON Lines has no header."""

    def write(self, records: Sequence[Record]) -> None:
        """Write one batch and flush it."""
        lines = [
            json.dumps(self._object(record), ensure_ascii=False, allow_nan=False)
            for record in records
        ]
        self.stream.write("".join(f"{line}\n" for line in lines).encode("utf-8"))
        self.stream.flush()

    def saved_rows(self) -> Iterator[SavedRow]:
        """Yield the complete rows of a partial file."""
        self.stream.seek(0)
        end = 0
        for line in self.stream:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            row = json.loads(line)
            yield SavedRow(row["path"], row["prediction"] or "", row["error"] or "", end)

    def _object(self, record: Record) -> dict[str, object]:
        path = printable_path(record.path)
        if isinstance(record, Failure):
            scores = dict.fromkeys(self._score_keys())
            return {"path": path, **scores, "error": record.reason}
        return {"path": path, **self._scores(record), "error": record.note or None}

    def _score_keys(self) -> list[str]:
        columns = self.columns
        keys = ["prediction", "probability", "top" if columns.top_k else "probabilities"]
        keys += ["logits"] if columns.logits else []
        return keys + (["similarities"] if columns.similarities else [])

    def _scores(self, record: Prediction) -> dict[str, object]:
        columns = self.columns
        scores: dict[str, object] = {
            "prediction": record.prediction,
            "probability": round(record.probability, 6),
        }
        if columns.top_k:
            scores["top"] = [
                {"label": label, "probability": round(probability, 6)}
                for label, probability in record.ranking(columns.ranks)
            ]
        else:
            scores["probabilities"] = self._by_label(record.probabilities.tolist())
        if columns.logits:
            scores["logits"] = self._by_label(record.logits.tolist())
        if columns.similarities:
            scores["similarities"] = self._by_label(record.similarities.tolist())
        return scores

    def _by_label(self, values: Sequence[float]) -> dict[str, float]:
        rounded = (round(value, 6) for value in values)
        return dict(zip(self.columns.labels, rounded, strict=True))
