"""The page in a real browser: look, filter, correct, download, and evaluate what came out."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from clipcls.cli import app
from clipcls.columns import CHANCE, CHOSEN_BY, PERSON, QUEUE
from clipcls.page.build import write_page
from clipcls.page.subject import Subject, read_subject
from clipcls.records import Failure, Record
from clipcls.testing import save_colours
from tests.browser.conftest import Browser
from tests.page.made import COLOURS, pictures, prediction, subject_of, with_failure

pytestmark = pytest.mark.browser

Opened = Callable[..., Browser]
HOSTILE = "<img src=x onerror=alert(1)>.jpg"
QUOTED = 'a "quoted" & <b>bold</b>, label'


def names(browser: Browser) -> list[str]:
    """The files in the gallery, in their order."""
    return browser.texts(".file")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# ---- looking


def test_the_gallery_shows_every_image_with_its_class(opened: Opened, tmp_path: Path) -> None:
    subject = subject_of(pictures(tmp_path / "in", 6))
    browser = opened(subject)
    assert browser.texts("h1") == ["out.csv"]
    assert len(browser.all(".tile img")) == 6
    browser.wait("[...document.querySelectorAll('.tile img')].every((i) => i.naturalWidth > 0)")
    order = sorted(subject.records, key=lambda record: -record.probability)  # type: ignore[union-attr]
    assert names(browser) == [Path(record.path).name for record in order]
    assert browser.texts(".caption .label") == [
        record.prediction  # type: ignore[union-attr]
        for record in order
    ]


def test_the_thumbnails_of_a_single_file_are_shown(opened: Opened, tmp_path: Path) -> None:
    browser = opened(subject_of(pictures(tmp_path / "in", 6)), single_file=True)
    sources = [image.get_attribute("src") for image in browser.all(".tile img")]
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    browser.wait("[...document.querySelectorAll('.tile img')].every((i) => i.naturalWidth > 0)")


@pytest.mark.parametrize("single_file", [False, True])
def test_an_explained_image_is_shown_with_its_explanation(
    browser: Browser, tmp_path: Path, single_file: bool
) -> None:
    paths = pictures(tmp_path / "in", 2)
    folder = tmp_path / "why"
    folder.mkdir()
    Image.new("RGB", (400, 150), "orange").save(folder / "000000.png")
    index = {"schema": 1, "images": [{"path": paths[1], "picture": "000000.png"}]}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    page = tmp_path / "report" / "index.html"
    write_page(subject_of(paths), page, single_file=single_file, explanations=folder)
    browser.open(page)
    for tile in browser.all(".tile"):
        name = tile.find_element("css selector", ".file").text
        tile.click()
        browser.wait("byId('viewer').open")
        if name == Path(paths[1]).name:
            assert browser.wait("byId('viewer-why').naturalWidth") == 400
            assert name in browser.one("#viewer-why").get_attribute("alt")
            large, small = (browser.one(f"#viewer-{part}").rect for part in ("image", "why"))
            assert large["y"] + large["height"] <= small["y"]
        else:
            assert browser.all("#viewer-why") == []
        browser.one("#viewer-close").click()


def test_filters_narrow_what_is_shown(opened: Opened, tmp_path: Path) -> None:
    labels = ("cat", "dog")
    scores = ([0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.05, 0.95])
    paths = pictures(tmp_path / "in", 4)
    records = [prediction(i, paths[i], labels, row) for i, row in enumerate(scores)]
    subject = with_failure(Subject("out.csv", labels, records), "broken.png", "corrupt: damaged")
    browser = opened(subject)
    everything = names(browser)
    assert len(everything) == 5

    browser.one("#search").send_keys("broken")
    assert names(browser) == ["broken.png"]
    assert browser.texts("#found") == ["1 of 5 images"]
    browser.one("#clear").click()
    browser.one("#states input[value=failed]").click()
    assert browser.texts(".caption .label") == ["corrupt: damaged"]
    browser.one("#states input[value=all]").click()
    browser.one("#classes input[value='1']").click()
    assert browser.texts(".caption .label") == ["dog", "dog"]
    least = browser.one("#least")
    least.clear()
    least.send_keys("80")
    assert browser.texts(".probability") == ["95.0 %"]
    browser.one("#clear").click()
    assert sorted(names(browser)) == sorted(everything)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [("confident", [0, 3, 2, 1]), ("margin", [1, 2, 3, 0]), ("entropy", [1, 2, 3, 0]),
     ("input", [0, 1, 2, 3])],
)  # fmt: skip
def test_the_order_is_the_one_that_was_chosen(
    opened: Opened, tmp_path: Path, sort: str, expected: list[int]
) -> None:
    labels = ("a", "b", "c")
    scores = ([0.9, 0.1, 0], [0.4, 0.32, 0.28], [0.5, 0.4, 0.1], [0.6, 0.38, 0.02])
    paths = pictures(tmp_path / "in", 4)
    records = [prediction(i, paths[i], labels, row) for i, row in enumerate(scores)]
    browser = opened(Subject("out.csv", labels, records))
    browser.one(f"#sort option[value={sort}]").click()
    assert names(browser) == [Path(paths[i]).name for i in expected]


def test_a_picture_opens_large_with_all_probabilities(opened: Opened, tmp_path: Path) -> None:
    labels = tuple("abcd")
    [path] = pictures(tmp_path / "in", 1)
    note = "truncated image"
    record = prediction(0, path, labels, [0.5, 0.3, 0.19999, 0.00001], note=note)
    browser = opened(Subject("out.csv", labels, [record]))
    browser.one(".tile").click()
    assert browser.texts("#viewer-bars .name") == list(labels)
    assert browser.texts("#viewer-bars .probability") == ["50.0 %", "30.0 %", "20.0 %", "–"]
    assert browser.one("#viewer-note").text == note
    size = "document.getElementById('viewer-image').naturalWidth"
    with Image.open(path) as original:
        assert browser.wait(size) == original.width
    browser.press("\ue00c")
    assert browser.all("#viewer") == []
    assert browser.ask("document.activeElement.className") == "tile"


@pytest.mark.parametrize(
    ("size", "shown"), [((32, 32), (480, 480)), ((60, 40), (720, 480)), ((700, 500), (700, 500))]
)
def test_small_images_are_enlarged_and_others_left_as_they_are(
    opened: Opened, tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    Image.new("RGB", size, "orange").save(tmp_path / "a.png")
    browser = opened(subject_of([str(tmp_path / "a.png")]))
    browser.one(".tile").click()
    browser.wait("byId('viewer-image').naturalWidth > 0")
    image = browser.one("#viewer-image").rect
    assert (image["width"], image["height"]) == shown


def test_an_original_that_is_gone_gives_way_to_its_thumbnail(
    browser: Browser, tmp_path: Path
) -> None:
    [path] = pictures(tmp_path / "in", 1)
    made = write_page(subject_of([path]), tmp_path / "report" / "index.html")
    Path(path).unlink()
    browser.open(made.path)
    browser.one(".tile").click()
    browser.wait("document.getElementById('viewer-image').naturalWidth > 0")
    assert "not where it was" in browser.one("#viewer-note").text
    assert all("ERR_FILE_NOT_FOUND" in line for line in browser.complaints())


def test_right_and_wrong_are_marked_and_the_matrix_filters(opened: Opened, tmp_path: Path) -> None:
    labels = ("cat", "dog")
    scores = ([0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.05, 0.95])
    truth = [("cat",), ("dog",), ("cat",), ("cat",)]
    paths = pictures(tmp_path / "in", 4)
    records = [prediction(i, paths[i], labels, row) for i, row in enumerate(scores)]
    browser = opened(Subject("predictions.csv", labels, records, truth))
    assert browser.texts(".verdict") == ["✕", "✕", "✕", "✓"]
    assert names(browser) == [Path(paths[i]).name for i in (3, 2, 1, 0)]
    browser.one("#matrix button[aria-label='2 images of cat taken for dog']").click()
    assert names(browser) == [Path(paths[i]).name for i in (3, 2)]
    browser.one("#pair button").click()
    browser.one("#states input[value=right]").click()
    assert names(browser) == [Path(paths[0]).name]


def test_of_many_labels_the_confused_pairs_are_listed(opened: Opened, tmp_path: Path) -> None:
    labels = tuple(f"label {i}" for i in range(40))
    paths = pictures(tmp_path / "in", 40)
    scores = [[0.9 if k == i else 0.1 / 39 for k in range(40)] for i in range(40)]
    scores[1] = scores[2] = scores[3]
    records = [prediction(i, paths[i], labels, row) for i, row in enumerate(scores)]
    truth = [(label,) for label in labels]
    truth[2] = truth[1]
    browser = opened(Subject("predictions.csv", labels, records, truth))
    assert browser.one("#confusion summary").text == "Confusion: 38 of 40 images right (95.0 %)"
    browser.one("#confusion summary").click()
    assert browser.texts("#matrix li") == ["2 label 1 taken for label 3"]
    browser.one("#matrix li button").click()
    assert sorted(names(browser)) == sorted(Path(paths[i]).name for i in (1, 2))


# ---- correcting


def test_three_labels_by_keyboard_are_kept_downloaded_and_evaluated(
    browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five pictures, of which three are labelled; two of them as predicted."""
    folder = tmp_path / "in"
    save_colours(folder, ["red", "green", "blue", "red", "green"])
    out, page = tmp_path / "out.csv", tmp_path / "report" / "index.html"
    paths = sorted(map(str, folder.iterdir()))
    probabilities = ["0.90,0.05,0.05", "0.10,0.80,0.10", "0.60,0.10,0.30",
                     "0.55,0.40,0.05", "0.30,0.50,0.20"]  # fmt: skip
    best = ["red,0.90", "green,0.80", "red,0.60", "red,0.55", "green,0.50"]
    lines = [f"{p},{b},{q},," for p, b, q in zip(paths, best, probabilities, strict=True)]
    head = "path,prediction,probability,red,green,blue,note,error"
    out.write_text("\n".join([head, *lines, ""]))
    write_page(read_subject(out), page)
    browser.open(page)

    browser.one(".tile[data-image='0']").click()
    browser.press("1", "\ue014", "3", "\ue014", "2")
    assert browser.one("#viewer-said").text.endswith(": green")
    browser.press("u", "3", "\ue00c")
    browser.wait("!document.getElementById('viewer').open")
    assert sorted(browser.texts(".truth.own")) == ["blue", "blue", "red"]

    browser.open(page)
    assert sorted(browser.texts(".truth.own")) == ["blue", "blue", "red"]
    labels = browser.downloaded("labels.csv")
    found = {row["path"]: (row["label"], row[CHOSEN_BY]) for row in rows(labels)}
    # The order is by confidence: red 0.9, green 0.8, red 0.6.
    assert found == {
        paths[0]: ("red", PERSON),
        paths[1]: ("blue", PERSON),
        paths[2]: ("blue", PERSON),
    }
    with pytest.raises(SystemExit) as ended:
        app(["evaluate", "--predictions", str(out), str(labels), "--json"])
    assert ended.value.code == 0
    told = capsys.readouterr()
    assert '"value": 0.3333' in told.out
    assert "no row was drawn at random" in told.err.lower()


def test_an_image_can_be_set_to_unknown_where_the_run_had_it(
    browser: Browser, opened: Opened, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = pictures(tmp_path / "in", 3)
    out, page = tmp_path / "out.csv", tmp_path / "report" / "index.html"
    cells = ["red,0.9,0.9,0.1,0.2", "unknown,0.7,0.7,0.3,0.65", "blue,0.6,0.4,0.6,0.3"]
    lines = [f"{path},{cell},," for path, cell in zip(paths, cells, strict=True)]
    out.write_text(
        "\n".join(["path,prediction,probability,red,blue,p_unknown,note,error", *lines, ""])
    )
    write_page(read_subject(out), page)
    browser.open(page)
    assert browser.texts(".caption .label") == ["red", "unknown", "blue"]
    assert browser.texts(".caption .probability") == ["90.0 %", "65.0 %", "60.0 %"]
    browser.one(".tile[data-image='0']").click()
    assert browser.texts("#viewer-bars .probability") == ["90.0 %", "10.0 %", "20.0 %"]
    assert browser.texts("#viewer-truth option") == ["not labelled", "red", "blue", "unknown"]
    browser.press("1", "\ue014", "0", "\ue014")
    browser.all("#viewer-bars button")[-1].click()
    assert browser.one("#viewer-verdict").text == "✕ blue, in truth unknown"
    browser.press("\ue00c")
    labels = browser.downloaded("labels.csv")
    assert [row["label"] for row in rows(labels)] == ["red", "unknown", "unknown"]
    with pytest.raises(SystemExit) as ended:
        app(["evaluate", "--predictions", str(out), str(labels), "--json"])
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)["unknown"]
    assert (told["known"], told["unknown"], told["unknown_found"]["value"]) == (1, 2, 0.5)

    browser = opened(subject_of(paths))
    browser.one(".tile[data-image='0']").click()
    assert "unknown" not in browser.texts("#viewer-truth option")
    browser.press("0")
    assert browser.texts(".truth.own") == []


def test_an_evaluation_with_unknown_images_counts_them_apart(
    opened: Opened, tmp_path: Path
) -> None:
    paths = pictures(tmp_path / "in", 3)
    records = [
        prediction(0, paths[0], COLOURS, [0.9, 0.05, 0.05]),
        prediction(1, paths[1], COLOURS, [0.5, 0.3, 0.2], unknown=True),
        prediction(2, paths[2], COLOURS, [0.6, 0.3, 0.1]),
    ]
    truth = [("red",), ("unknown",), ("unknown",)]
    browser = opened(Subject("predictions.csv", COLOURS, records, truth))
    told = ": 1 of 1 known right (100.0 %), 1 of 2 unknown found (50.0 %)"
    assert browser.texts("#accuracy") == [told]
    # The mistake first, then by probability; how much speaks for the unknown was not asked.
    assert browser.texts(".verdict") == ["✕", "✓", "✓"]
    assert browser.texts(".caption .probability") == ["60.0 %", "90.0 %", "–"]
    browser.one("#matrix button[aria-label='1 image of unknown taken for red']").click()
    assert names(browser) == [Path(paths[2]).name]


def test_labels_of_another_report_are_not_mixed_in(browser: Browser, tmp_path: Path) -> None:
    paths = pictures(tmp_path / "in", 4)
    first = write_page(subject_of(paths), tmp_path / "a" / "index.html")
    second = write_page(subject_of(paths, ("red", "green")), tmp_path / "b" / "index.html")
    browser.open(first.path)
    browser.all(".tile")[0].click()
    browser.press("1", "\ue00c")
    browser.open(second.path)
    assert browser.texts(".truth.own") == []
    browser.open(first.path)
    assert browser.texts(".truth.own") == ["red"]


def test_labels_can_be_set_in_the_gallery_without_a_pointer(opened: Opened, tmp_path: Path) -> None:
    browser = opened(subject_of(pictures(tmp_path / "in", 12)))
    browser.ask("document.querySelector('.tile').focus()")
    browser.press("\ue014", "2", "\ue015", "1", "u")
    columns = browser.ask("columns")
    assert browser.ask("[...marks.keys()]") == [browser.ask("order[1]")]
    assert browser.ask("focused") == min(1 + columns, 11)
    browser.press("\ue007")
    assert browser.one("#viewer-place").text.startswith(f"{browser.ask('focused') + 1} of 12")
    browser.press("\ue00c", "/")
    assert browser.ask("document.activeElement.id") == "search"
    browser.press("1", "u", "\ue004", "?")
    assert browser.one("#search").get_attribute("value") == "1u"
    assert len(browser.all("#help")) == 1


def test_the_queue_marks_what_was_drawn_at_random(opened: Opened, tmp_path: Path) -> None:
    """Three of five rounds; a picture that a person chose counts when its round is whole."""
    browser = opened(subject_of(pictures(tmp_path / "in", 50)))
    rounds = browser.ask("data.queue.rounds")
    browser.ask("setLabel(arguments[0], 0)", rounds[0][3])
    browser.ask("setLabel(arguments[0], 0)", rounds[4][3])
    browser.press("n")
    while len(browser.ask("wholeRounds()")) < 3:
        browser.press("1")
    browser.press("\ue00c")
    found = {row["path"]: row[CHOSEN_BY] for row in rows(browser.downloaded("labels.csv"))}
    paths = browser.ask("data.paths")
    whole = {paths[i] for part in browser.ask("wholeRounds()") for i in part}
    assert len(whole) >= 30
    assert {path for path, by in found.items() if by == CHANCE} == whole
    others = {path: by for path, by in found.items() if path not in whole}
    assert set(others.values()) <= {QUEUE, PERSON}
    assert QUEUE in others.values()
    assert f"Of {len(whole)} drawn at random" in browser.one("#progress").text


def test_several_labels_to_an_image_are_added_and_removed(opened: Opened, tmp_path: Path) -> None:
    browser = opened(subject_of(pictures(tmp_path / "in", 2), multi_label=True))
    browser.all(".tile")[0].click()
    browser.press("1", "3", "2", "1", "\ue00c")
    [row] = rows(browser.downloaded("labels.csv"))
    assert row["label"] == "green;blue"


def test_the_truth_of_an_evaluation_is_downloaded_with_corrections(
    opened: Opened, tmp_path: Path
) -> None:
    subject = subject_of(pictures(tmp_path / "in", 3))
    truth = [("red",), (), ("blue",)]
    browser = opened(Subject("predictions.csv", subject.labels, subject.records, truth))
    assert browser.all("#next") == []
    browser.one(".tile[data-image='2']").click()
    browser.press("2", "\ue00c")
    found = rows(browser.downloaded("labels.csv"))
    paths = [record.path for record in subject.records]
    assert found == [{"path": paths[0], "label": "red"}, {"path": paths[2], "label": "green"}]


# ---- names are data


def test_hostile_names_are_text_and_do_nothing(opened: Opened, tmp_path: Path) -> None:
    [made] = save_colours(tmp_path / "in", ["red"])
    hostile = made.rename(made.with_name(HOSTILE))
    labels = (QUOTED, "</script><script>alert(2)</script>", "javascript:alert(3)")
    records: list[Record] = [
        prediction(0, str(hostile), labels, [0.6, 0.3, 0.1]),
        Failure(1, "x'\"><svg onload=alert(4)>.png", "<iframe src=//example.org>"),
    ]
    made_by = {"model": {"name": "<u>m</u>"}, "prompts": {name: ["<i>p</i>"] for name in labels}}
    browser = opened(Subject("<title>", labels, records, made_by=made_by))
    assert names(browser)[0] == HOSTILE
    assert browser.texts(".caption .label") == [QUOTED, "<iframe src=//example.org>"]
    browser.all(".tile")[0].click()
    assert browser.one("#viewer-name").text == HOSTILE
    assert browser.wait("document.getElementById('viewer-image').naturalWidth > 0")
    browser.press("1", "\ue00c")
    [row] = rows(browser.downloaded("labels.csv"))
    assert (row["path"], row["label"]) == (str(hostile), QUOTED)
    foreign = "u, i, svg, iframe, [onerror], script[src], a[href^=javascript]"
    assert browser.ask(f"document.querySelectorAll('{foreign}').length") == 0


def test_the_policy_stops_what_is_not_of_the_page(browser: Browser, tmp_path: Path) -> None:
    """A script, a style, a handler and a request that somebody got in all the same."""
    made = write_page(subject_of(pictures(tmp_path / "in", 1)), tmp_path / "index.html")
    text = made.path.read_text(encoding="utf-8")
    inside = '<script>window.bad = 1</script><img src="gone:x" onerror="window.bad = 2">'
    made.path.write_text(text.replace("<header", f"{inside}<header", 1), encoding="utf-8")
    browser.open(made.path)
    browser.ask("document.body.insertAdjacentHTML('beforeend', '<b style=\"color:red\">x</b>')")
    tried = "fetch('http://127.0.0.1:9/').then(() => 'sent', (error) => 'stopped')"
    assert browser.ask(tried) == "stopped"
    assert browser.ask("window.bad === undefined")
    assert len(browser.all(".tile")) == 1
    told = " ".join(browser.complaints())
    stopped = {
        kind for kind in ("script-src", "style-src", "img-src", "default-src") if kind in told
    }
    assert stopped == {"script-src", "style-src", "img-src", "default-src"}
    assert not any(address.startswith("http") for address in browser.addresses())


# ---- everybody


def test_what_a_screen_reader_needs_is_there(opened: Opened, tmp_path: Path) -> None:
    browser = opened(subject_of(pictures(tmp_path / "in", 12)))
    for landmark in ("header", "nav[aria-label]", "main", "h1", "main [role=status]"):
        assert len(browser.ask(f"[...document.querySelectorAll('{landmark}')]")) == 1
    # What is outside of an open dialog is silent.
    assert len(browser.ask("[...document.querySelectorAll('#viewer [role=status]')]")) == 1
    unnamed = """[...document.querySelectorAll("button, input, select")].filter((e) =>
        !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)).length"""
    assert browser.ask(unnamed) == 0
    item = browser.all("[role=listitem]")[2]
    assert (item.get_attribute("aria-posinset"), item.get_attribute("aria-setsize")) == ("3", "12")
    assert re.fullmatch(r"\S+\.png, (red|green|blue), [\d.]+ %", item.accessible_name or
                        browser.all(".tile")[2].get_attribute("aria-label"))  # fmt: skip
    tabbable = "[...document.querySelectorAll('.tile')].filter((t) => t.tabIndex === 0).length"
    assert browser.ask(tabbable) == 1
    browser.ask("document.querySelector('.tile').focus()")
    browser.press("1")
    assert re.fullmatch(r"\S+\.png: red", browser.one("#said").text)
    assert "you said red" in browser.all(".tile")[0].get_attribute("aria-label")


def test_nothing_is_wider_than_a_phone(opened: Opened, tmp_path: Path) -> None:
    labels = ("a-label-without-any-blank-that-goes-on-and-on-and-on-beyond-the-edge", "b")
    browser = opened(subject_of(pictures(tmp_path / "in", 8), labels), width=390)
    wide = "document.documentElement.scrollWidth"
    assert browser.ask(wide) == 390
    assert len(browser.all(".tile")) >= 4
    assert browser.all("#search") == []
    browser.one("#filters summary").click()
    assert len(browser.all("#search")) == 1
    assert browser.ask(wide) == 390
    browser.all(".tile")[0].click()
    assert browser.ask("viewer.scrollWidth") <= 390


def test_the_page_comes_to_rest_in_a_window_of_any_size(opened: Opened, tmp_path: Path) -> None:
    """Also where all of it fits into the window just without, or just with, a scrollbar."""
    browser = opened(subject_of(pictures(tmp_path / "in", 12)))
    browser.ask("addEventListener('error', (event) => console.error(event.message))")
    browser.resize(1300, 500)
    browser.wait("innerHeight === 500 && columns === 5")
    assert browser.ask("innerWidth - document.documentElement.clientWidth") > 0
    changes = """const [done] = arguments;
        let count = 0;
        const observer = new MutationObserver((found) => { count += found.length; });
        observer.observe(document.body, { subtree: true, childList: true, attributes: true });
        setTimeout(() => { count = 0; }, 300);
        setTimeout(() => { observer.disconnect(); done(count); }, 600);"""
    needed = browser.ask("document.documentElement.scrollHeight")
    restless = {}
    for height in range(needed - 2, needed + 14, 3):
        browser.resize(1300, height)
        restless[height] = browser.driver.execute_async_script(changes)
    assert restless == dict.fromkeys(restless, 0)
    # Where the filters close, the grid moves up.
    browser.resize(760, 500)
    browser.wait("columns === 4 && tiles.size === 12")


def test_five_thousand_images_are_painted_in_two_seconds(opened: Opened, tmp_path: Path) -> None:
    [path] = pictures(tmp_path / "in", 1)
    labels = tuple(f"label {i}" for i in range(12))
    browser = opened(subject_of([f"{path}/{i}.jpg" for i in range(5_000)], labels))
    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    assert browser.wait(paint) < 2_000
    assert browser.ask("document.querySelectorAll('.tile').length") > 10
    ready = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    assert browser.ask(ready) < 2_000


def test_twenty_thousand_images_are_a_window_of_tiles(opened: Opened, tmp_path: Path) -> None:
    """They share one file, so that the page and not the disk is looked at."""
    [path] = pictures(tmp_path / "in", 1)
    subject = subject_of([f"{path}/{i}.jpg" for i in range(20_000)], COLOURS)
    browser = opened(subject)
    assert browser.texts("#found") == ["20,000 images"]
    few = 200
    assert 0 < browser.ask("document.querySelectorAll('.tile').length") < few
    for _ in range(12):
        browser.ask("scrollBy(0, innerHeight)")
        browser.ask("draw()")
    browser.ask("scrollTo(0, document.body.scrollHeight)")
    last = "[...document.querySelectorAll('[aria-posinset=\"20000\"]')].length"
    assert browser.wait(last) == 1
    assert browser.ask("document.querySelectorAll('.tile').length") < few
    browser.one("#search").send_keys("/19999.")
    assert names(browser) == ["19999.jpg"]
