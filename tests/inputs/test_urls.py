"""What others may read of an address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcls.inputs.urls import redacted

TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"


@pytest.mark.parametrize(
    "text",
    [
        "photos/a.jpg?token=abc",
        "https://example.org/a b/é.jpg",
        "https://example.org/a.jpg?id=5&w=200&name=holiday-in-france-2019-07-11.jpg",
        "HTTP://Example.org:8080/a%20b.jpg",
        "https://example.org/show?u=https%3A%2F%2Fexample.net%2Fa.jpg",
    ],
)
def test_what_has_no_secret_is_unchanged(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pass@h/a.jpg", "https://h/a.jpg"),
        ("https://us@er:pa@h:1/a.jpg", "https://h:1/a.jpg"),
        ("https://h/a.jpg#access_token=x", "https://h/a.jpg"),
        (
            "https://h/a.jpg?X-Amz-Credential=AK&id=5&X-Amz-Signature=ff",
            "https://h/a.jpg?X-Amz-Credential=***&id=5&X-Amz-Signature=***",
        ),
        ("https://h/a?sv=1&sig=a%2Fb/c=", "https://h/a?sv=1&sig=***"),
        ("https://h/a?%73ig=1", "https://h/a?%73ig=***"),
        ("https://h/a;jsessionid=5/b.jpg", "https://h/a;jsessionid=***/b.jpg"),
        ("https://h/a?api_key=1&Key-Pair-Id=2&monkey=3", None),
        ("https://[h/a?sig=1", "https://***"),
        ("s3://key:secret@bucket/a.jpg", "s3://bucket/a.jpg"),
        ("zip://s3://key:secret@bucket/a.zip", "zip://s3://bucket/a.zip"),
    ],
)
def test_secrets_are_left_out(text: str, shown: str | None) -> None:
    expected = shown or "https://h/a?api_key=***&Key-Pair-Id=***&monkey=3"
    assert redacted(text) == expected


def test_tokens_without_a_telling_name_are_hidden_and_still_told_apart() -> None:
    one, other = (redacted(f"https://h/a?x={TOKEN}{i}&page=2") for i in (1, 2))
    assert TOKEN not in one
    assert one.endswith("&page=2")
    assert one != other
    assert TOKEN not in redacted(f"https://h/a?{TOKEN}")


def test_an_address_within_an_address_is_redacted_too() -> None:
    assert redacted("https://h/?u=http%3A%2F%2Fu%3Apw%40g%2Fa%3Fsig%3D1") == (
        "https://h/?u=http%3A%2F%2Fg%2Fa%3Fsig%3D***"
    )


@given(st.text("abc:@&=;%[]", max_size=20), st.text("abc:@/?#&=;%[]", max_size=20))
def test_a_password_never_shows(user: str, path: str) -> None:
    assert "s3cr3t" not in redacted(f"https://{user}:s3cr3t@host/{path}")


@given(st.text(max_size=30))
def test_any_text_can_be_shown_and_is_stable(text: str) -> None:
    once = redacted(f"https://{text}")
    assert redacted(once) == once
