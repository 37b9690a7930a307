"""The HTML report, opened in Debian's Chromium: what is drawn, how it is used, what it looks like.

What this does not cover: whether it is good to look at. Look at it, in both themes and narrow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from electctl.compare.evidence import Evidence, as_dict
from electctl.compare.promises import promises
from electctl.compare.report import render
from electctl.compare.results import Result
from tests.chromium import Chromium
from tests.drill_results import FAULTS, matrix, result
from tests.processes import wait_for

#: Not that a server is started; but a program is, which ``make servers`` installs.
pytestmark = pytest.mark.server

CELL = "redis/electctl/clock:forward"
SPLIT = "redis/electctl/flush"
SAFE = "etcd/electctl/crash:tree"
EVIL = '</script><img src="https://example.invalid/x" onerror="window.evil=1"><!--'


def evidence(results: list[dict[str, Any]]) -> Evidence:
    return Evidence(own=[Result.of(each) for each in results])


def page_of(shown: Evidence, path: Path, *schemes: str) -> Path:
    page = render(promises(schemes), shown, version="1.2.3", at="2026-01-31 02:00 UTC")
    path.write_bytes(page.encode())
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of(evidence(matrix()), tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def _browser() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


@pytest.fixture
def browser(_browser: Chromium) -> Iterator[Chromium]:
    """A window of 1280 × 900 that prefers light. Whatever a test does, the console stays empty."""
    _browser.size(1280, 900)
    _browser.scheme("light")
    yield _browser
    assert _browser.console == []


def shown(browser: Chromium, selector: str) -> int:
    return int(browser.eval(f"document.querySelectorAll({json.dumps(selector)}).length"))


def text(browser: Chromium, selector: str) -> str:
    return str(browser.eval(f"document.querySelector({json.dumps(selector)}).textContent"))


def focused(browser: Chromium) -> str:
    return str(browser.eval("document.activeElement.dataset.cell ?? document.activeElement.id"))


def window(browser: Chromium) -> tuple[float, float]:
    """What the timeline shows, in seconds."""
    start, _, _, end, _ = text(browser, ".d-window").split()
    return float(start), float(end)


# What is there -----------------------------------------------------------------------------------


def test_it_asks_nobody_for_anything(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.click(f'[data-cell="{CELL}"]')
    assert browser.requests == [page.as_uri()]


def test_it_opens_in_less_than_a_second_of_processor_time(browser: Chromium, page: Path) -> None:
    browser.open(page)
    assert shown(browser, "circle.point") > 500
    assert 0 < browser.spent() < 1


def test_a_whole_matrix_of_20_rounds_is_under_2_megabytes(tmp_path: Path) -> None:
    assert page_of(evidence(matrix(rounds=20)), tmp_path / "r.html").stat().st_size < 2_000_000


def test_it_carries_the_lines_of_json(browser: Chromium, page: Path) -> None:
    browser.open(page)
    lines = [as_dict(each, evidence(matrix())) for each in promises()]
    assert json.loads(text(browser, "#data")) == json.loads(json.dumps(lines))


def test_every_cell_stands_in_a_table_with_its_verdict_as_a_word(
    browser: Chromium, page: Path
) -> None:
    browser.open(page)
    table = browser.eval("""Object.fromEntries([...document.querySelectorAll('#matrix tbody tr')]
        .map(row => [row.querySelector('th[scope=row]').textContent.replace('\\u200b', ''),
                     [...row.querySelectorAll('td .pair .word, [aria-disabled] .word')]
                         .map(word => word.textContent)]))""")
    heads = browser.eval("""[...document.querySelectorAll('#matrix thead th[scope=col]')]
        .map(head => head.textContent.replace('\\u200b', '').split(/\\s+/).join(' ').trim())""")
    assert list(table) == sorted([*FAULTS, "restore"])
    found = evidence(matrix())
    columns = [pair for each in promises() for pair in found.candidates(each.schemes)]
    assert heads[1:] == [s if by == "electctl" else f"{s} by {by}" for s, by in columns]
    cells = {(cell.scheme, cell.candidate, cell.fault): cell for cell in found.of(["redis", "zk"])}
    for number, pair in enumerate(columns):
        for fault, words in table.items():
            if pair[0] in ("redis", "zk"):
                cell = cells.get((*pair, fault))
                word = "no run" if cell is None else cell.verdict.replace("_", " ")
                assert words[number] == word, (pair, fault)
    assert text(browser, '[data-cell="redis/electctl/clock:fast"] .part') == "1/3"
    also = '[data-cell="redis/electctl/evict:force"] .also'
    assert text(browser, also) == "!checkpoint lost, tokens fall"


def test_every_point_is_shown_and_can_be_chosen_by_fault(browser: Chromium, page: Path) -> None:
    browser.open(page)
    cells = evidence(matrix()).of(["redis", "zk", "etcd", "raft", "local", "redis+sentinel"])
    points = '[data-kind="failover"] .point'
    assert shown(browser, points) == sum(len(cell.failovers) for cell in cells)
    handovers = sum(len(cell.handovers) for cell in cells)
    assert shown(browser, '[data-kind="handover"] .point') == handovers > 0
    browser.eval("""(which => { which.value = 'gc'; which.dispatchEvent(new Event('change')); })
        (document.getElementById('which'))""")
    wanted = sum(len(cell.failovers) for cell in cells if cell.fault == "gc")
    assert shown(browser, points) == wanted > 0


def test_a_row_of_the_textbook_opens_its_drill(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.click(f'#textbook [data-cell="{SPLIT}"]')
    assert text(browser, "#d-title") == "redis × flushsplit-brain"


def test_without_a_run_it_says_so_and_shows_promises(browser: Chromium, tmp_path: Path) -> None:
    browser.open(page_of(Evidence(), tmp_path / "r.html"))
    assert "No run yet." in text(browser, "#verdicts .note")
    words = browser.eval("[...document.querySelectorAll('#matrix .word')].map(w => w.textContent)")
    assert set(words) == {"no run"}
    assert shown(browser, ".promise") == len(promises())
    browser.eval("document.querySelector('#matrix [tabindex=\"0\"]').focus()")
    browser.press("ArrowDown", "Enter")
    assert not browser.eval("document.getElementById('drill').open")


# The timeline ------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [CELL, SPLIT, SAFE])
def test_lanes_fault_overlap_and_marks_are_drawn(browser: Chromium, page: Path, key: str) -> None:
    browser.open(page, f"#{key}")
    scheme, candidate, fault = key.split("/")
    verdict = {CELL: "fenced", SPLIT: "split-brain", SAFE: "safe"}[key]
    told = result(scheme, fault, verdict, candidate=candidate, seed=3, round=3)
    lanes = told["lanes"]
    for view in ("store", "belief", "effect"):
        assert shown(browser, f".bar.{view}") == len(lanes[view])
        # On both of the bars that it is an overlap of.
        two = told["overlap"][view]
        time = f"{two} ms" if two < 1000 else f"{two / 1000:.2f} s"
        said = f'.overlap[data-tip^="two at once: {view}, for {time}"]'
        assert shown(browser, said) == (2 if two else 0)
    assert shown(browser, "#timeline .band") == 1
    refused = [mark for mark in told["marks"] if mark["kind"] == "refused"]
    assert shown(browser, "#timeline .mark.good") == len(refused)
    taken = [mark for mark in told["marks"] if mark["kind"] in ("accepted", "lost")]
    assert shown(browser, "#timeline .mark.bad") == len(taken)
    assert told["why"] == text(browser, ".d-why")
    assert told["command"] == text(browser, ".d-facts pre")
    rows = sum(map(len, lanes.values())) + len(told["marks"])
    assert shown(browser, ".d-table tbody tr") == rows


def test_lanes_can_be_grouped_by_view(browser: Chromium, page: Path) -> None:
    browser.open(page, f"#{CELL}")
    names = "[...document.querySelectorAll('#timeline .name')].map(name => name.textContent)"
    assert browser.eval(names) == ["a", "b", "c"]
    browser.eval("""(by => { by.value = 'view'; by.dispatchEvent(new Event('change')); })
        (document.getElementById('by'))""")
    assert browser.eval(names) == ["store", "belief", "effect"]


def test_the_mouse_pans_and_zooms_and_is_told_what_it_is_over(
    browser: Chromium, page: Path
) -> None:
    browser.open(page, f"#{CELL}")
    whole = window(browser)
    x, y = browser.eval("""(box => [box.x + box.width / 2, box.y + box.height / 2])
        (document.querySelector('#timeline').getBoundingClientRect())""")
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-100, modifiers=2)
    wait_for(lambda: window(browser) != whole)
    near = window(browser)
    assert whole[0] < near[0] < near[1] < whole[1]
    browser.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
    browser.mouse("mouseMoved", x + 60, y, button="left", buttons=1)
    browser.mouse("mouseReleased", x + 60, y, button="left", clickCount=1)
    assert window(browser)[0] < near[0]
    assert window(browser)[1] - window(browser)[0] == pytest.approx(near[1] - near[0], abs=0.02)
    x, y = browser.eval("""(box => [box.x + box.width / 2, box.y + box.height / 2])
        (document.querySelector('.mark.good').getBoundingClientRect())""")
    browser.mouse("mouseMoved", x, y)
    assert "stale write refused: a, at" in text(browser, "#tip")
    assert browser.eval("document.getElementById('tip').matches(':popover-open')")


# The keyboard ------------------------------------------------------------------------------------


def test_the_keyboard_does_all_of_it(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.eval("document.querySelector('#verdicts .scroll').focus()")
    browser.press("Tab")
    first = focused(browser)
    assert first.endswith("/clock:back")
    browser.press("ArrowDown", "ArrowDown")
    assert focused(browser) == first.replace("back", "forward")
    browser.press("End")
    assert focused(browser) == "redis+sentinel/electctl/clock:forward"
    for _ in range(10):
        if focused(browser) == CELL:
            break
        browser.press("ArrowLeft")
    assert focused(browser) == CELL
    assert "came after token" in text(browser, "#tip")
    assert browser.eval("document.getElementById('tip').matches(':popover-open')")

    browser.press("Enter")
    assert browser.eval("document.getElementById('drill').open")
    assert text(browser, "#d-title") == "redis × clock:forwardfenced"
    assert browser.eval("location.hash") == f"#{CELL}"
    start, end = window(browser)
    browser.press("+")
    near = window(browser)
    assert start < near[0] < near[1] < end
    browser.press("ArrowRight")
    assert window(browser)[0] > near[0]
    browser.press("-", "0")
    assert window(browser) == (start, end)
    browser.press("f")
    near = window(browser)
    assert start < near[0] < near[1] < end
    browser.press("o")
    assert near[0] < window(browser)[0] < window(browser)[1]
    browser.press("PageDown")
    assert text(browser, "#d-title").startswith("redis × crash:electctl")
    browser.press("PageUp", "Escape")
    assert not browser.eval("document.getElementById('drill').open")
    wait_for(lambda: browser.eval("location.hash") == "")
    assert focused(browser) == CELL


# How it looks ------------------------------------------------------------------------------------

#: Texts whose contrast with what is behind them is below 4.5, by the formula of WCAG 2.
PALE = """(() => {
  const rgb = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return {r, g, b, a};
  };
  const light = ({r, g, b}) => {
    const [x, y, z] = [r, g, b].map((each) => each / 255)
      .map((each) => each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const ground = rgb(getComputedStyle(at).backgroundColor);
      if (ground.a === 1) return ground;
      if (at.matches('dialog, body')) break;
    }
    return rgb(getComputedStyle(document.body).backgroundColor);
  };
  const pale = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility() || node.closest('script, #tip')) continue;
    const style = getComputedStyle(node);
    const bar = node.matches('.bar-text') && document.querySelector('.bar.' + node.classList[1]);
    const ink = light(rgb(node.closest('svg') ? style.fill : style.color));
    const ground = light(bar ? rgb(getComputedStyle(bar).fill) : behind(node));
    const contrast = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
    if (contrast < 4.5) pale.push([node.className.baseVal ?? node.className, contrast]);
  }
  return pale;
})()"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read_in_both_themes(browser: Chromium, page: Path, theme: str) -> None:
    browser.scheme(theme)
    browser.open(page)
    browser.eval("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.eval(PALE) == []
    browser.open(page, f"#{CELL}")
    assert browser.eval(PALE) == []


def test_the_switch_wins_over_what_the_system_prefers(browser: Chromium, page: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    browser.open(page)
    light = browser.eval(ground)
    browser.click('[value="dark"]')
    dark = browser.eval(ground)
    assert dark != light
    browser.scheme("dark")
    browser.click('[value="light"]')
    assert browser.eval(ground) == light
    browser.click('[value="auto"]')
    assert browser.eval(ground) == dark


@pytest.mark.parametrize("width", [320, 400, 768, 1280])
def test_nothing_is_cut_off_however_narrow(browser: Chromium, page: Path, width: int) -> None:
    browser.size(width, 800)
    browser.open(page)
    browser.eval("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.eval("document.documentElement.scrollWidth") <= width
    cut = """[...document.querySelectorAll('#matrix .cell')].filter(
        (cell) => cell.scrollWidth > cell.clientWidth + 1).length"""
    assert browser.eval(cut) == 0
    browser.open(page, f"#{CELL}")
    assert browser.eval("(d => d.scrollWidth <= d.clientWidth)(document.querySelector('#drill'))")
    assert browser.eval("document.querySelector('#timeline').clientWidth") > width * 0.7 - 20


def test_it_prints_light_unfolded_and_without_controls(browser: Chromium, page: Path) -> None:
    browser.open(page)
    assert browser.pdf().startswith(b"%PDF")
    assert shown(browser, "main details[open]") == 0, "folded again after it was printed"
    browser.scheme("dark", media="print")
    assert browser.eval("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for control in ("nav", ".theme", "#which"):
        assert not browser.eval(f"document.querySelector('{control}').checkVisibility()")


# What others wrote -------------------------------------------------------------------------------


def test_no_name_breaks_out_of_its_place(browser: Chromium, tmp_path: Path) -> None:
    odd = json.loads(json.dumps(result("redis")).replace('"a"', json.dumps(EVIL)))
    odd |= {"why": EVIL, "command": EVIL, "versions": {"server": EVIL, EVIL: EVIL}}
    odd["machine"] = {EVIL: EVIL}
    odd["injected"] |= {"target": EVIL, "confirmed": EVIL}
    odd["marks"] = [{"at": 1, "candidate": EVIL, "kind": EVIL, "text": EVIL}, *odd["marks"]]
    path = page_of(evidence([odd]), tmp_path / "r.html", "redis")
    browser.open(path, f"#{CELL}")
    assert text(browser, ".d-why") == EVIL
    assert EVIL in text(browser, ".d-table")
    assert shown(browser, "img") == 0
    assert browser.eval("window.evil") is None
    assert browser.requests == [path.as_uri()]


def test_what_its_policy_does_not_name_does_not_run(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.eval("""new Promise((done) => {
        document.addEventListener('securitypolicyviolation', (event) => {
            window.refused = event.effectiveDirective;
            done();
        });
        const script = document.createElement('script');
        script.textContent = 'window.evil = 1';
        document.body.append(script);
    })""")
    assert browser.eval("window.refused") == "script-src-elem"
    assert browser.eval("window.evil") is None
    browser.console.clear()  # which says so too
