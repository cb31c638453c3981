"""Plans: pure, so that any output can be tried."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from clipcls.options import SortOptions
from clipcls.sorting.names import same_name_key
from clipcls.sorting.plan import Destination, Image, Verdict, make_plan

LABELS = ["cat", "Cat", "c/t", "c:t", "unknown", "failed", "FAILED", "", "..", "con", "x" * 300]
NAMES = ["a.jpg", "A.jpg", "a-2.jpg", "b.png"]


@st.composite
def images(draw: st.DrawFn) -> list[Image]:
    rows = []
    for i in range(draw(st.integers(0, 25))):
        label = draw(st.sampled_from(LABELS))
        probability = draw(st.floats(0, 1)) if label else math.nan
        source = f"/{i}/{draw(st.sampled_from(NAMES))}"
        problem = draw(st.sampled_from(["", "", "", "no such file"]))
        repeated = draw(st.sampled_from([False, False, False, True]))
        rows.append(
            Image(source[1:], label, probability, source, problem=problem, repeated=repeated)
        )
    return rows


@st.composite
def destinations(draw: st.DrawFn) -> Destination:
    entries = draw(st.dictionaries(st.sampled_from(["cat", "CAT", "unknown", "failed", "c_t", "_"]),
                                   st.booleans()))  # fmt: skip
    inside = {name: draw(st.lists(st.sampled_from(NAMES))) for name in entries}
    known = {"c:t": "c_t-2"} if draw(st.booleans()) else {}
    return Destination(entries, inside.__getitem__, known)


options = st.builds(
    SortOptions,
    min_probability=st.none() | st.floats(0, 1),
    top=st.none() | st.integers(1, 4),
)


@given(images(), options, destinations())
def test_every_image_has_one_place_and_no_place_is_taken(
    rows: list[Image], chosen: SortOptions, destination: Destination
) -> None:
    plan = make_plan(rows, chosen, destination)
    assert [d.image for d in plan.decisions] == rows
    placed = plan.placed
    # Nothing that is there, no file in a folder's place, no two of a name.
    keys = [(same_name_key(d.folder), same_name_key(d.name)) for d in placed]
    assert len(set(keys)) == len(keys)
    for decision in placed:
        assert destination.entries.get(decision.folder, True)
        if decision.folder in destination.entries:
            there = map(same_name_key, destination.listed(decision.folder))
            assert same_name_key(decision.name) not in there
    # A folder has one label, and a label one folder.
    labels = defaultdict(set)
    for decision in placed:
        image = decision.image
        weak = image.label and image.probability < (chosen.min_probability or 0)
        labels[decision.folder].add("unknown" if weak else image.label)
    assert all(len(found) == 1 for found in labels.values())
    folders = {label: folder for folder, found in labels.items() for label in found}
    assert len(folders) == len(labels)
    assert plan.labels.items() == {(f, label) for label, f in folders.items()}
    assert folders.get("c:t") in (None, destination.known.get("c:t", folders.get("c:t")))
    if "failed" in labels:
        assert labels["failed"] == {""}


@given(images(), st.none() | st.floats(0, 1), st.integers(1, 4), destinations())
def test_the_most_probable_are_chosen_the_first_of_equals(
    rows: list[Image], least: float | None, top: int, destination: Destination
) -> None:
    everything = make_plan(rows, SortOptions(min_probability=least), destination)
    few = make_plan(rows, SortOptions(min_probability=least, top=top), destination)
    wanted: set[int] = set()
    groups = defaultdict(list)
    for place, image in enumerate(rows):
        if not image.repeated:
            weak = image.label and image.probability < (least or 0)
            groups["unknown" if weak else image.label].append((-image.probability, place))
    for group in groups.values():
        ranked = sorted(group, key=lambda pair: (not math.isnan(pair[0]) and pair[0], pair[1]))
        wanted |= {place for _, place in ranked[:top]}
    for place, (one, other) in enumerate(zip(everything.decisions, few.decisions, strict=True)):
        assert other.verdict is (one.verdict if place in wanted else Verdict.LEFT_OUT)
    assert max(Counter(d.folder for d in few.placed).values(), default=0) <= top


def test_where_an_image_is_already_decides_before_its_name_does() -> None:
    here = Image("a.jpg", "cat", 0.9, "/a.jpg", there=("cat", "a-7.jpg"), pinned="stays")
    away = Image("b.jpg", "dog", 0.9, "/b.jpg", there=("cat", "b.jpg"), pinned="stays")
    moved = Image("s/cat/c.jpg", "dog", 0.9, "/s/cat/c.jpg", there=("cat", "c.jpg"))
    plan = make_plan([here, away, moved], SortOptions(), Destination({}, lambda name: (), {}))
    first, second, third = plan.decisions
    assert (first.verdict, first.folder, first.name) == (Verdict.THERE, "cat", "a-7.jpg")
    assert (second.verdict, second.reason) == (Verdict.FAILED, "stays")
    assert (third.verdict, third.folder, third.name) == (Verdict.PLACED, "dog", "c.jpg")
