"""Addresses of images: what they are, and how they are written where others may read.

An address can carry a secret: a password before the host, a token or a signature in the query. The
secret is sent to its host and goes nowhere else. What is shown and written is `redacted`.
"""

from __future__ import annotations

import os
import re
from hashlib import blake2b
from urllib.parse import quote, unquote, urlsplit

is_url = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE).match
is_web = re.compile(r"https?://", re.IGNORECASE).match

is_store = re.compile(r"(s3|gs|az|hf|zip)://", re.IGNORECASE).match
ARCHIVE = "zip"
is_archive = re.compile(r"(zip|tar)://", re.IGNORECASE).match
is_tar = re.compile(r"tar://", re.IGNORECASE).match

_ends_like_a_tar = re.compile(r".*[^/]\.(tar|tar\.gz|tgz)", re.IGNORECASE | re.DOTALL).fullmatch

HIDDEN = "***"

PARQUET = frozenset({".parquet", ".pq"})
JSON_LINES = frozenset({".jsonl", ".ndjson"})
TABLES = (".csv", ".tsv", *sorted(JSON_LINES), *sorted(PARQUET))
"""How the names of tables end."""

ZIP = ("an archive", "zip://FILE")
_OTHERWISE = {
    **dict.fromkeys(TABLES, ("a table", "classify --image-column NAME")),
    ".txt": ("a text", "@FILE"),
    ".zip": ZIP,
}

_names_a_secret = re.compile(
    r"x-(amz|goog)-.*|expires|.*(token|sig|secret|passw|pwd|auth|cred|session|jwt|policy|hmac).*"
    r"|(.*[-_.])?(key|pass|pw|code|access.?key|api.?key|key.?pair.?id|hash)",
    re.IGNORECASE,
).fullmatch
_parameter = re.compile(r"(?P<before>[?&;])(?P<name>[^=&;]*)(?P<equals>=?)(?P<value>[^&;]*)")
_path_parameter = re.compile(r"(?P<before>;)(?P<name>[^=;/]*)(?P<equals>=)(?P<value>[^;/]*)")
_looks_random = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9+/=_~.\-]{24,}").fullmatch
_has_extension = re.compile(r".*\.[A-Za-z]{1,5}[0-9]?").fullmatch


def redacted(text: str) -> str:
    """Return an input as others may read it; paths and addresses without secrets are unchanged.

    Of an address, user and password and what follows a `#` are left out, and values in the query
    are hidden that are secret by their name (`token`, `X-Amz-Signature`). One that only looks like
    a token is replaced by eight digits of its digest, so that rows can still be told apart.
    """
    if not is_url(text):
        return text
    if is_archive(text):
        # What is in it, and the archive, which may have an address of its own.
        inner, mark, archive = text.rpartition("::") if "::" in text else (text[:6], "", text[6:])
        return inner + mark + redacted(archive)
    if is_store(text):  # a key may have any character in it, and no query
        scheme, _, rest = text.partition("://")
        bucket, slash, key = rest.partition("/")
        return f"{scheme}://{bucket.rpartition('@')[2]}{slash}{key}"
    try:
        parts = urlsplit(text)
    except ValueError:  # brackets that hold no IPv6 address
        return f"{text[: text.index('://')]}://{HIDDEN}"
    host = parts.netloc.rpartition("@")[2]
    path = _path_parameter.sub(_hidden, parts.path)
    query = _parameter.sub(_hidden, f"?{parts.query}") if parts.query else ""
    return f"{text[: text.index('://')]}://{host}{path}{query}"


def why_unreadable(text: str) -> str:
    """Return why nothing here reads an address; empty if something may, or it is none."""
    if is_archive(text):
        archive = member_of(archive_of(text))[1]
        if not archive:
            return f"no archive is named ({text[:6]}FILE)"
        if is_archive(archive):
            return "an archive in an archive"
        if is_web(archive) and not is_tar(text):
            return "a zip archive at a web address (download it first)"
        return why_unreadable(archive)
    if is_web(text) or is_store(text) or not is_url(text):
        return ""
    scheme = text.partition("://")[0].lower()
    return f"{scheme}:// is none of http://, https://, s3://, gs://, az://, hf://, zip://, tar://"


def archive_of(text: str) -> str:
    """Return `zip://photos.zip` as `zip://::photos.zip`, and anything else as it is."""
    if is_archive(text) and "::" not in text:
        return f"{text[:6]}::{text[6:]}"
    return text


def child(folder: str, name: str) -> str:
    """Return the address of what is in a folder of a store or an archive."""
    inner, mark, archive = folder.rpartition("::") if is_archive(folder) else (folder, "", "")
    start = inner if inner.endswith("/") else f"{inner}/"
    return f"{start}{name}{mark}{archive}"


def key_of(name: str) -> str:
    """Return what webdataset calls the key of a member: up to the first dot of its last name."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def file_of(path: str) -> str:
    """Return the file that an image is in: of a member of an archive, the archive."""
    return member_of(path)[1] if is_archive(path) else path


def place_of(path: str) -> str:
    """Return, in words, where an image of an output is; empty if it is a file of its own here."""
    if is_archive(path):
        return "inside an archive"
    if is_store(path):
        return "in a store"
    if is_url(path):
        return "a web address"
    table, _, row = path.rpartition("#")
    return "in a table" if row.isdecimal() and is_table(table) else ""


def names_a_tar(text: str) -> bool:
    """Return whether a path or an address is that of a tar archive, by its extension."""
    if is_archive(text):
        return False
    return bool(_ends_like_a_tar(re.split("[?#]", text, maxsplit=1)[0] if is_web(text) else text))


def is_table(text: str) -> bool:
    """Return whether an input is called like a table."""
    return ending_of(text) in TABLES


def ending_of(text: str) -> str:
    """Return the extension of a path, an address or a member of an archive in small letters."""
    name = text.rpartition("::")[0] if is_archive(text) and "::" in text else text
    return os.path.splitext(name)[1].lower()


def read_otherwise(text: str) -> tuple[str, str] | None:
    """Return what a file is by its name, and how the images that it holds or names are given.

    None is a file of which the name says nothing of the kind.
    """
    return _OTHERWISE.get(ending_of(text))


def member_of(url: str) -> tuple[str, str]:
    """Return what an address names in an archive, and the archive."""
    inner, _, archive = url[6:].rpartition("::")
    return inner, archive


def _hidden(found: re.Match[str]) -> str:
    start = found["before"] + found["name"] + found["equals"]
    if not found["equals"]:
        return found["before"] + _digest_of_token(found["name"])
    value = unquote(found["value"])
    if value and _names_a_secret(unquote(found["name"])):
        return start + HIDDEN
    if is_url(value):
        inner = redacted(value)
        return start + (found["value"] if inner == value else quote(inner, safe="*"))
    return start + _digest_of_token(found["value"])


def _digest_of_token(value: str) -> str:
    plain = unquote(value)
    if not _looks_random(plain) or _has_extension(plain):
        return value
    return HIDDEN + blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
