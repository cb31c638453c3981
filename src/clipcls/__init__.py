"""Zero-shot image classification with open_clip models.

```python
from clipcls import Classifier

classifier = Classifier(["glasses", "no-glasses"])
for record in classifier.classify("images/"):
    print(record)
```

The public names below are loaded when they are first used, so that `import clipcls` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipcls.classifier import Classifier
    from clipcls.errors import ClipclsError
    from clipcls.models.names import resolve_model
    from clipcls.options import (
        CacheOptions,
        DecodeOptions,
        Decoding,
        Fit,
        Precision,
        RuntimeOptions,
        ScoringOptions,
        SortBy,
        SortOptions,
        Truncated,
        UnknownOptions,
    )
    from clipcls.outputs.merge import merge_shards, read_shards
    from clipcls.outputs.results import read_results
    from clipcls.records import Failure, Prediction
    from clipcls.sorting.sort import sort_images, undo_sort

__version__ = "0.1.0"

__all__ = [
    "CacheOptions",
    "Classifier",
    "ClipclsError",
    "DecodeOptions",
    "Decoding",
    "Failure",
    "Fit",
    "Precision",
    "Prediction",
    "RuntimeOptions",
    "ScoringOptions",
    "SortBy",
    "SortOptions",
    "Truncated",
    "UnknownOptions",
    "__version__",
    "merge_shards",
    "read_results",
    "read_shards",
    "resolve_model",
    "sort_images",
    "undo_sort",
]

_HOMES = {
    "CacheOptions": "options",
    "Classifier": "classifier",
    "ClipclsError": "errors",
    "DecodeOptions": "options",
    "Decoding": "options",
    "Failure": "records",
    "Fit": "options",
    "Precision": "options",
    "Prediction": "records",
    "RuntimeOptions": "options",
    "ScoringOptions": "options",
    "SortBy": "options",
    "SortOptions": "options",
    "Truncated": "options",
    "UnknownOptions": "options",
    "merge_shards": "outputs.merge",
    "read_results": "outputs.results",
    "read_shards": "outputs.merge",
    "resolve_model": "models.names",
    "sort_images": "sorting.sort",
    "undo_sort": "sorting.sort",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'clipcls' has no attribute '{name}'")
    return getattr(import_module(f"clipcls.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
