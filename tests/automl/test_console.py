"""Numbers, durations and charts as people see them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from automl import console
from automl.charts import HEIGHT, LEFT, WIDTH, Axis, Point, Series, chart
from automl.console import first_line, metrics_table, number_text, percent_text, screen, seconds_text, values_text
from trials.transfer import Progress


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "true"),
        (12, "12"),
        (0.0, "0"),
        (1.0, "1"),
        (0.123456, "0.1235"),
        (1e-4, "1e-4"),
        (2.46e-4, "2.46e-4"),
        (1.5e6, "1.5e6"),
        (float("nan"), "nan"),
        ("AdamW", "AdamW"),
    ],
)
def test_numbers(value: float | int | bool | str | None, text: str):
    assert number_text(value) == text


def test_a_message_without_its_list():
    assert first_line("2 files do not exist:\n  a.png\n  b.png") == "2 files do not exist"
    assert first_line("") == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "unknown"), (8.04, "8.0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float | None, text: str):
    assert seconds_text(seconds) == text


def test_percent_knows_the_direction():
    assert percent_text(9.0, 10.0, minimise=True) == "10.0 % better"
    assert percent_text(0.9, 1.0, minimise=False) == "10.0 % worse"


def test_values_are_shortened_to_what_fits():
    assert values_text({"train.optim.lr": 1e-4, "a.b": "x", "c": True}, limit=2) == "lr=1e-4 b=x +1"


def test_a_metric_of_unknown_name_is_still_shown(capsys: pytest.CaptureFixture[str]):
    screen().print(metrics_table("t", {"val/d1": 0.5, "train/lr": 0.1}, "mono"))
    out = capsys.readouterr().out
    assert "higher" in out
    assert "train/lr" in out


def test_a_point_in_the_middle_of_a_log_axis_is_drawn_in_the_middle():
    points = [Point(x=x, y=1.0) for x in (1e-4, 1e-3, 1e-2)]
    svg = ElementTree.fromstring(chart([Series(points=points)], Axis(label="lr", log=True), Axis(label="loss")))
    places = [float(circle.attrib["cx"]) for circle in svg.iter("circle")]
    assert places[1] == pytest.approx((places[0] + places[2]) / 2, abs=0.1)
    assert all(LEFT <= place <= WIDTH for place in places)


def test_a_better_value_is_drawn_lower_on_the_page_and_counts_have_whole_ticks():
    points = [Point(x=1, y=1.0), Point(x=2, y=2.0)]
    svg = ElementTree.fromstring(chart([Series(points=points)], Axis(label="epoch", whole=True), Axis(label="loss")))
    heights = [float(circle.attrib["cy"]) for circle in svg.iter("circle")]
    assert HEIGHT > heights[0] > heights[1] > 0
    assert {text.text for text in svg.iter("text") if text.text and text.text.startswith("1.5")} == {"1.5"}  # the loss alone


def test_text_of_a_user_cannot_become_markup():
    svg = chart([Series(points=[Point(x=0, y=0, title="<script>")])], Axis(label="<b>"), Axis(label="y"))
    assert "<script>" not in svg
    assert "<b>" not in svg


def test_no_points_no_chart():
    assert chart([], Axis(label="x"), Axis(label="y")) == ""


def test_what_prints_goes_on_when_nobody_reads(tmp_path: Path):
    code = "import sys; from automl.console import screen; from pathlib import Path\n"
    code += "for _ in range(3): screen().print('x' * 100_000)\nPath(sys.argv[1]).touch()"
    end = tmp_path / "end"
    with subprocess.Popen([sys.executable, "-c", code, end], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
    assert process.returncode == 0
    assert end.exists()


def test_a_transfer_without_a_terminal_is_a_line_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
    with console.transferred("fetching what a list names") as show:
        show(Progress(objects=3, of_objects=40, size=5 * 2**20, of_size=1000 * 2**20, left_s=61.0))
    out, err = capsys.readouterr()
    assert (out, err) == ("", "fetching what a list names: 3/40 objects, 5/1,000 MiB, 1 min 01 s left\n")
