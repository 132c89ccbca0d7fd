import io
import subprocess
import sys

import pytest

from ptft.logs import Console, Pace


class Clock:
    """Time that passes when told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def drive(console: Console, clock: Clock, steps: int, seconds: float = 0.1, every: int = 10) -> None:
    for step in range(1, steps + 1):
        clock.now += seconds
        if step % every == 0:
            console.step(step, {"loss": 3.0 / step, "lr": 3e-4, "tokens": 500 * step})


def test_the_rate_leaves_evaluations_out_and_the_time_left_includes_them():
    clock = Clock()
    pace = Pace(1000, clock)
    found = {}
    for step in range(1, 1001):
        clock.now += 60 if step == 1 else 0.2  # the first step compiles
        if step % 10 == 0:
            found[step] = (clock.now, pace.mark(step, {"tokens": 64 * step}))
        if step % 100 == 0:
            with pace.pause():
                clock.now += 5
    assert found[10][1] == {}
    for step in range(20, 1001, 10):
        assert found[step][1]["tokens_per_second"] == pytest.approx(64 / 0.2, rel=0.02)
    for step in (510, 610, 710):
        when, rates = found[step]
        assert rates["seconds_left"] == pytest.approx(clock.now - when, rel=0.02)
    assert found[1000][1]["seconds_left"] == 0


def test_a_resumed_run_counts_from_where_it_goes_on():
    clock = Clock()
    pace = Pace(100, clock)
    pace.mark(60, {"samples": 600})
    clock.now += 2
    assert pace.mark(70, {"samples": 700}) == {"samples_per_second": 50, "seconds_left": 6}
    clock.now += 50
    assert pace.mark(70, {"samples": 700}) == {"samples_per_second": 50, "seconds_left": 6}, "marking again changes nothing"


def test_going_back_to_an_earlier_step_starts_the_pace_anew():
    clock = Clock()
    pace = Pace(100, clock)
    pace.mark(60, {"tokens": 600})
    clock.now += 1
    assert pace.mark(50, {"tokens": 500}) == {}
    clock.now += 1
    assert pace.mark(51, {"tokens": 510})["tokens_per_second"] == 10


def test_plain_progress_is_a_line_every_two_seconds_and_always_the_first_and_the_last():
    clock, stream = Clock(), io.StringIO()
    console = Console(100, stream=stream, clock=clock)
    drive(console, clock, 100, seconds=0.0625)
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["10/100", "50/100", "90/100", "100/100"]
    assert lines[1] == "step 50/100  loss 0.0600  lr 3.00e-04  8,000 tokens/s  0:03 left"


def test_a_terminal_is_redrawn_at_most_four_times_a_second():
    clock, stream = Clock(), io.StringIO()
    console = Console(1000, plain=False, stream=stream, width=100, clock=clock)
    drive(console, clock, 1000, seconds=0.01, every=1)
    assert 38 <= stream.getvalue().count("\r") <= 42
    last = stream.getvalue().split("\r")[-2]
    assert "1,000/1,000" in last
    assert "━" * 24 in last
    assert "50,000 tokens/s" in last


@pytest.mark.parametrize("width", [20, 60, 90])
def test_a_narrow_terminal_loses_the_bar_before_the_numbers(width):
    clock, stream = Clock(), io.StringIO()
    drive(Console(100, plain=False, stream=stream, width=width, clock=clock), clock, 20)
    shown = stream.getvalue().split("\r")[-2]
    assert "20/100" in shown
    assert ("loss 0.15" in shown) == (width >= 60)
    assert ("━" in shown) == (width >= 90)


def test_the_validation_score_stays_in_sight():
    clock, stream = Clock(), io.StringIO()
    console = Console(100, stream=stream, score="accuracy", clock=clock)
    console.evaluation(50, "valid", {"loss": 0.5, "accuracy": 0.875})
    console.evaluation(50, "valid_ema", {"loss": 0.5, "accuracy": 0.9})
    console.step(60, {"loss": 0.4, "lr": 1e-3})
    lines = stream.getvalue().splitlines()
    assert lines[0] == "step 50  valid  loss 0.5000  accuracy 0.8750"
    assert lines[2] == "step 60/100  loss 0.4000  valid accuracy 0.8750  lr 1.00e-03"


def test_the_number_of_steps_may_become_known_after_the_data_is_read():
    clock, stream = Clock(), io.StringIO()
    console = Console(0, stream=stream, clock=clock)
    console.progress("tokenising", 5, 5)
    console.expect(20, "accuracy")
    console.evaluation(10, "valid", {"accuracy": 0.5})
    drive(console, clock, 20)
    last = stream.getvalue().splitlines()[-1]
    assert last == "step 20/20  loss 0.1500  valid accuracy 0.5000  lr 3.00e-04  5,000 tokens/s  0:00 left"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: 1 rows without text dropped", "train: 1 row without text dropped"),
        ("1 tags do not occur in training: B-X", "1 tag does not occur in training: B-X"),
        ("1 images outside of the folders were left out", "1 image outside of the folders was left out"),
        ("1 rows cut, 3 boxes are crowds", "1 row cut, 3 boxes are crowds"),
        ("valid: 1 cells (1 in 'when') missing", "valid: 1 cell (1 in 'when') missing"),
        ("row 1 has 1 boxes", "row 1 has 1 box"),
        ("1 of 121 rows (0.8%) cut; 1,001 rows, 0.1 rows and 21 classes", None),
    ],
)
def test_one_of_a_thing_is_said_in_the_singular(text, said):
    console = Console(10, stream=io.StringIO())
    console.note(text)
    assert console.notes == [said or text]


def test_a_note_is_printed_once_and_repeated_in_the_last_lines():
    stream = io.StringIO()
    console = Console(10, stream=stream)
    console.start("pretrain", {"model": "gpt", "tuning": [{"part": "heads", "rate": 1.0}]})
    console.note("12 rows were dropped")
    console.note("12 rows were dropped")
    console.summary({"run": "runs/a", "scores": [{"score": "loss", "valid": 1.5}]}, "ptft finetune ckpt=runs/a")
    console.close()
    lines = stream.getvalue().splitlines()
    assert lines.count("note: 12 rows were dropped") == 2
    assert lines[-3:] == ["note: 12 rows were dropped", "next:", "  ptft finetune ckpt=runs/a"]
    assert "loss   1.5000" in lines


def test_a_run_that_ends_without_a_summary_still_repeats_its_notes():
    stream = io.StringIO()
    console = Console(10, stream=stream)
    console.note("step 3: loss nan")
    console.saved("runs/a/checkpoints/step-0000000002")
    console.close()
    assert stream.getvalue().splitlines()[-1] == "note: step 3: loss nan"


def test_other_work_shows_its_progress_too():
    clock, stream = Clock(), io.StringIO()
    console = Console(10, stream=stream, clock=clock)
    for done in range(0, 1001, 10):
        clock.now += 0.125
        console.progress("tokenizing", done, 1000)
    console.step(1, {"loss": 1.0})
    lines = stream.getvalue().splitlines()
    assert lines[0] == "tokenizing 0/1,000"
    assert lines[-2] == "tokenizing 1,000/1,000"
    assert lines[-1].startswith("step 1/10"), "the first step is shown at once"
    assert len(lines) == 9


def test_each_sample_is_one_indented_line():
    stream = io.StringIO()
    Console(10, stream=stream).samples(5, ["first\nsecond", "third"])
    assert stream.getvalue() == "    first ⏎ second\n    third\n"


def test_neither_torch_nor_rich_is_imported_before_the_first_line():
    code = "import sys, ptft.logs; ptft.logs.Console(1); print({'torch', 'rich', 'matplotlib'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
