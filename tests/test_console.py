"""Laws of the live picture on a terminal."""

import pytest
from learning import ToColour, awake, small_plan

from nca_texture.cli import console
from nca_texture.training import train


def test_a_live_picture_keeps_its_height_where_grids_are_of_two_sizes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "60")
    plan = small_plan(iterations=30, pool_size=8, width=16, height=16, large_every=2)
    reports = list(train(awake(seed_kind="noise"), ToColour(), plan))
    assert len({report.image.shape[-2] for report in reports}) == 2
    heights = set()
    with console.TrainingView(len(reports) + 1, 0, quiet=False) as view:
        for report in reports:
            view.show([report])
        monkeypatch.setattr(console, "_REDRAW", 0)
        for report in reports:
            capsys.readouterr()
            view.show([report])
            lines = capsys.readouterr().err.split("\n")
            heights.add(sum("▀" in line for line in lines))
    assert heights == {8}, "sixteen cells, two to a line"
