import math
import subprocess
import sys

import numpy as np
import pytest

from ptft import pictures
from ptft.lettering import legible

WIDTH, HEIGHT = slice(16, 20), slice(20, 24)  # where a PNG says how large it is


def run(steps: int = 300) -> list[dict]:
    rows = []
    for step in range(1, steps + 1):
        rows.append({"step": step, "split": "train", "loss": 1 + math.exp(-step / 50), "lr": 1e-3 * (1 - step / steps)})
        if step % 50 == 0:
            rows.append({"step": step, "split": "valid", "loss": 1.2 + math.exp(-step / 50), "accuracy": step / steps})
    return rows


def lines_of(rows, monkeypatch, tmp_path, **options) -> dict[str, tuple[list, list]]:
    """What is drawn, by label, read from the figure just before it becomes pixels."""
    drawn = {}
    save = pictures._save

    def catch(figure, path):
        for axes in figure.axes:
            for line in axes.get_lines():
                drawn[f"{axes.get_ylabel()}|{line.get_label()}"] = (list(line.get_xdata()), list(line.get_ydata()))
        return save(figure, path)

    monkeypatch.setattr(pictures, "_save", catch)
    pictures.curves(rows, tmp_path / "curves.png", **options)
    return drawn


def pixels(path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n") and content.endswith(b"IEND\xaeB`\x82"), "a whole PNG"
    return int.from_bytes(content[WIDTH], "big"), int.from_bytes(content[HEIGHT], "big")


def test_curves_show_loss_score_and_rate_against_the_step(tmp_path, monkeypatch):
    rows = [*run(), {"step": 300, "split": "final_test", "loss": 1.3, "accuracy": 0.9}]
    drawn = lines_of(rows, monkeypatch, tmp_path, score="accuracy", title="finetune on $5 reviews")
    assert drawn["loss|valid: lowest 1.202 at step 300"][0] == [50, 100, 150, 200, 250, 300]
    assert drawn["accuracy|valid: 1 at step 300"][1] == [step / 300 for step in range(50, 301, 50)]
    assert drawn["accuracy|test: 0.9"] == ([300], [0.9])
    assert list(tmp_path.iterdir()) == [tmp_path / "curves.png"], "no partial file is left"
    width, height = pixels(tmp_path / "curves.png")
    assert width > 800 and height > 600


def test_what_a_resumed_run_did_over_again_is_drawn_once(tmp_path, monkeypatch):
    rows = [*run(40), {"superseded_after": 20}, {"step": 21, "split": "train", "loss": 0.5, "lr": 0.1}]
    steps, losses = lines_of(rows, monkeypatch, tmp_path)["loss|train"]
    assert steps == list(range(1, 22))
    assert losses[-1] == 0.5


def test_losses_that_are_not_finite_are_left_out(tmp_path, monkeypatch):
    rows = [*run(10), {"step": 11, "split": "train", "loss": "nan", "lr": 1e-3}]
    assert lines_of(rows, monkeypatch, tmp_path)["loss|train"][0] == list(range(1, 11))


def test_smoothing_keeps_a_straight_line_straight():
    line = np.linspace(3, 1, 200)
    np.testing.assert_allclose(pictures._smooth(line), line, rtol=1e-12)


@pytest.mark.parametrize("rows", [[], run(1), run(50)])
def test_a_run_that_has_hardly_begun_has_curves_too(tmp_path, rows):
    pixels(pictures.curves(rows, tmp_path / "curves.png", score="accuracy"))


@pytest.mark.parametrize("classes", [2, 13, *(pytest.param(many, marks=pytest.mark.slow) for many in (7, 30, 50, 120))])
def test_a_confusion_matrix_fits_any_number_of_classes(tmp_path, classes):
    counts = np.random.default_rng(0).integers(0, 90, (classes, classes))
    counts[0] = 0
    width, height = pixels(pictures.confusion(counts, [f"class {n}" for n in range(classes)], tmp_path / "matrix.png"))
    assert 400 < width < 2500 and 300 < height < 2500


def test_cells_are_shares_of_their_row_with_counts():
    counts = np.array([[30.0, 10.0], [0.0, 5.0]])
    shares = counts / counts.sum(axis=1, keepdims=True)
    cells = [pictures._cell(counts, shares, row, column) for row, column in np.ndindex(2, 2)]
    assert cells == ["75%\n30", "25%\n10", "", "100%\n5"]


def test_labels_of_any_language_and_length_draw_without_warnings(tmp_path):
    labels = ["体育", "财经 finance", "x" * 200, "$a$ and $", "tab\tnew\nline", "👍", "", "नमस्ते"]
    pixels(pictures.confusion(np.eye(8), labels, tmp_path / "matrix.png"))


def test_a_name_without_any_letter_in_the_fonts_becomes_its_number():
    unknown = "\U0001fbf0\U0010ffff"  # a private character: in no font
    names, fonts = legible(["plain", "\U0010ffff", "half \U0010ffff", "𝼀𝼁" if "𝼀".isalnum() else unknown])
    assert names[:3] == ["plain", "", "half"]
    assert names[3] in {"#3", "𝼀𝼁"}
    assert fonts[0] == "DejaVu Sans"


def test_a_long_name_keeps_its_start_and_its_end():
    (name,), _ = legible(["account blocked because of too many wrong passwords"], longest=24)
    assert name.startswith("account") and name.endswith("words") and len(name) <= 24


def test_a_schedule_is_drawn_for_each_group(tmp_path):
    rates = {"layer 1": [0, 1e-4, 0], "heads": [0, 1e-3, 0]}
    pixels(pictures.schedule(rates, 1000, tmp_path / "schedule.png"))


def test_drawing_leaves_no_figure_behind_in_pyplot(tmp_path):
    code = (
        "import sys; from ptft import pictures; assert 'matplotlib' not in sys.modules;"
        f"pictures.curves([], {str(tmp_path / 'curves.png')!r}); print('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
