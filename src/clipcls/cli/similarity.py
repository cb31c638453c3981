"""`clipcls similarity`: images and texts in, the cosine similarity of each with each out."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipcls.cli import _flags as flags
from clipcls.cli import _run_flags as run_flags
from clipcls.cli import _truth_flags as truth_flags
from clipcls.cli._base import own_process
from clipcls.errors import OptionError
from clipcls.options import (
    DecodeOptions,
    Decoding,
    DiscoveryOptions,
    Fit,
    Precision,
    RemoteOptions,
    Truncated,
)

if TYPE_CHECKING:
    from clipcls.classifier import Classifier
    from clipcls.evaluation.similarity import Similarity
    from clipcls.inputs.refs import ImageRef

EPILOG = """\b
Examples:
  clipcls similarity ./images --text "a cat" --text "a cup of coffee" -o heat.png
  clipcls similarity ./images --texts texts.txt --prefix "This is " -o sim.csv -o heat.png
  clipcls similarity ./images --pairs captions.csv -o heat.pdf
"""

_texts: Any = partial(typer.Option, rich_help_panel="Texts")


def similarity(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files, folders, glob patterns, @list.txt, or - for paths on standard input.",
            show_default=False,
        ),
    ],
    text: Annotated[
        list[str] | None, _texts("--text", metavar="TEXT", help="One text; may be repeated.")
    ] = None,
    texts: Annotated[
        Path | None,
        _texts("--texts", metavar="FILE", help="Texts from a .txt file, one per line; - is stdin."),
    ] = None,
    pairs: Annotated[
        Path | None,
        _texts(
            "--pairs",
            metavar="FILE",
            help="A text for each image: a table (.csv, .tsv, .jsonl, .parquet) of images and"
            " texts.",
        ),
    ] = None,
    image_column: truth_flags.ImageColumnFlag = None,
    image_pattern: truth_flags.ImagePatternFlag = None,
    text_column: Annotated[
        str | None,
        _texts("--text-column", metavar="NAME", help="The column of the texts of --pairs."),
    ] = None,
    prefix: Annotated[str, _texts("--prefix", metavar="TEXT", help="Put before each text.")] = "",
    labels: flags.LabelsFlag = None,
    label: flags.LabelFlag = None,
    labels_file: flags.LabelsFileFlag = None,
    model: flags.ModelFlag = None,
    arch: flags.ArchFlag = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            rich_help_panel="Output",
            help="A .csv file for the numbers (- is standard output, the default), or a .png, .svg"
            " or .pdf file for a heat map; may be repeated.",
        ),
    ] = None,
    overwrite: run_flags.OverwriteFlag = False,
    recursive: run_flags.RecursiveFlag = True,
    exclude: run_flags.ExcludeFlag = None,
    fit: run_flags.FitFlag = Fit.MODEL,
    decoding: run_flags.DecodeFlag = Decoding.FAST,
    max_megapixels: run_flags.MaxMegapixelsFlag = DecodeOptions.max_megapixels,
    truncated: run_flags.TruncatedFlag = Truncated.ERROR,
    downloads: run_flags.DownloadsFlag = RemoteOptions.downloads,
    download_timeout: run_flags.DownloadTimeoutFlag = RemoteOptions.timeout,
    max_download: run_flags.MaxDownloadFlag = RemoteOptions.max_megabytes,
    allow_private_urls: run_flags.AllowPrivateUrlsFlag = False,
    device: run_flags.DeviceFlag = "auto",
    precision: run_flags.PrecisionFlag = Precision.AUTO,
    cache: run_flags.CacheFlag = True,
    cache_dir: run_flags.CacheDirFlag = None,
    verify_cache: run_flags.VerifyCacheFlag = False,
    quiet: run_flags.QuietFlag = False,
) -> None:
    """Compare images with texts and write the cosine similarity of each with each."""
    decode = DecodeOptions(max_megapixels, truncated, fit, decoding)
    by_label = labels or label or labels_file
    _check_sources(inputs, bool(text or texts), bool(by_label), texts, pairs)
    truth_flags.check_no_tables(inputs, image_column)
    # From here on numpy and Pillow are needed; a slip in a flag was found without them.
    from clipcls.evaluation.heat_map import EXTENSIONS, heat_map, heat_map_bytes
    from clipcls.evaluation.join import Naming
    from clipcls.evaluation.similarity import (
        finish_texts,
        read_pairs,
        read_texts,
        text_classifier,
    )
    from clipcls.inputs.recognize import is_candidate
    from clipcls.inputs.urls import file_of
    from clipcls.inputs.walk import Discovery
    from clipcls.models.names import default_model, resolve_model
    from clipcls.outputs.base import write_file

    wordings = [*(text or ()), *(read_texts(texts) if texts else ())]
    if by_label:
        chosen, _ = flags.labels_and_templates(
            labels, label, labels_file, None, None, inputs=inputs, quiet=quiet
        )
        wordings = [wording for one in chosen for wording in one.wordings]
    remote = run_flags.remote_options(downloads, download_timeout, max_download, allow_private_urls)
    discovery = DiscoveryOptions(recursive, exclude=tuple(exclude or ()), remote=remote)
    refs = list(Discovery(inputs, discovery, is_image=is_candidate))
    if pairs is not None:
        roots = [name for name in inputs if os.path.isdir(name)]
        wordings = read_pairs(pairs, refs, roots, Naming(image_column, image_pattern), text_column)
    finished = finish_texts(wordings, prefix)
    # The numbers first: they are safe when the heat map fails.
    files = sorted(
        (Path(name) for name in dict.fromkeys(output or ()) if name != "-"),
        key=lambda file: file.suffix.lower() in EXTENSIONS,
    )
    reads = [*(file_of(ref.path) for ref in refs), *(name.removeprefix("@") for name in inputs)]
    reads += [str(path) for path in (texts, labels_file, pairs) if path]
    _check_outputs(files, overwrite, reads)
    spec = resolve_model(model or default_model(), arch)
    runtime = run_flags.runtime_options(
        *(device, precision, "auto", "auto"), *(cache, cache_dir, verify_cache)
    )
    classifier = text_classifier(finished, model=spec, decode=decode, runtime=runtime)
    own_process(max_megapixels)
    found = _compared(classifier, refs, paired=pairs is not None, quiet=quiet)
    if output is None or "-" in output:
        sys.stdout.buffer.write(found.csv())
    for file in files:
        drawn = file.suffix.lower() in EXTENSIONS
        write_file(
            file,
            heat_map_bytes(heat_map(found, decode), file.suffix) if drawn else found.csv(),
        )
    raise typer.Exit(3 if found.failures else 0)


def _check_sources(
    inputs: Sequence[str], by_text: bool, by_label: bool, texts: Path | None, pairs: Path | None
) -> None:
    """Refuse texts from two places or from none, and a second reading of standard input."""
    if by_text + by_label + (pairs is not None) != 1:
        raise OptionError(
            "texts come from one place: give --text or --texts, or --labels, --label or"
            " --labels-file, or --pairs"
        )
    if [*inputs, *map(str, (texts, pairs))].count("-") > 1:
        raise OptionError(
            "standard input (-) can be read only once: put the images or the texts into a file"
        )


def _check_outputs(files: Sequence[Path], overwrite: bool, reads: Sequence[str]) -> None:
    """Refuse files that say no format, or cannot be written."""
    from clipcls.evaluation.heat_map import EXTENSIONS
    from clipcls.outputs.base import check_target

    for file in files:
        if file.suffix.lower() not in (".csv", *EXTENSIONS):
            raise OptionError(
                f"the extension of {file} says no format: name the file of -o .csv,"
                f" {', '.join(EXTENSIONS)}"
            )
        check_target(file, overwrite=overwrite, reads=reads)


def _compared(
    classifier: Classifier, refs: Sequence[ImageRef], *, paired: bool, quiet: bool
) -> Similarity:
    """Compare, and say on stderr what is done and how it went."""
    from clipcls.console import TerminalObserver, Verbosity
    from clipcls.evaluation.similarity import compare

    with TerminalObserver(Verbosity.QUIET if quiet else Verbosity.NORMAL) as observer:
        classifier.warn = observer.warned
        placed = classifier.device
        classifier.settle(tell=observer.downloading)
        observer.loading(classifier.name, placed)
        observer.started(classifier.prompts, len(refs), resumed=0)
        found = compare(classifier, refs, paired=paired, seen=observer.scored)
    failed = len(found.failures)
    if failed and not quiet:
        first = f"{found.failures[0].path}: {found.failures[0].reason}"
        observer.say(
            f"Failed: {failed} of {len(refs)} images, left out of heat maps; first {first}"
        )
    if paired and not quiet:
        scored = len(refs) - failed
        observer.say(f"own text is the most similar for {found.own_is_best()} of {scored} images")
    return found
