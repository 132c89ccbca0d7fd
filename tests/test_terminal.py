import io
import math
import os
import subprocess
import sys

import pytest

from ptft.terminal import Terminal, as_clock, size, sparkline, tell


def plain() -> Terminal:
    return Terminal(io.StringIO())


def fancy(width: int = 80) -> Terminal:
    return Terminal(io.StringIO(), plain=False, width=width)


def test_a_stream_that_is_no_terminal_gets_plain_lines():
    terminal = plain()
    terminal.line("heading", style="bold red")
    terminal.pairs({"model": "gpt", "parameters": 1234567})
    terminal.status("never seen")
    assert terminal.stream.getvalue() == "heading\nmodel       gpt\nparameters  1,234,567\n"


def test_a_long_line_is_not_broken_so_that_a_command_can_be_copied():
    command = "ptft finetune " + " ".join(f"dataset.path=/a/long/path/{n}" for n in range(20))
    for terminal in (plain(), fancy(width=20)):
        terminal.line(command)
        assert command in terminal.stream.getvalue()


def test_numbers_in_a_table_stand_to_the_right_and_lines_end_without_blanks():
    terminal = plain()
    terminal.table([{"part": "embeddings", "parameters": 64000}, {"part": "heads", "parameters": 2, "rate": 0.5}])
    lines = terminal.stream.getvalue().splitlines()
    assert lines[1] == "embeddings      64,000"
    assert lines[2] == "heads                2  0.5000"
    assert all(line == line.rstrip() for line in lines)


def test_control_characters_in_data_are_spelt_out_and_markup_is_not_obeyed():
    for terminal in (plain(), fancy()):
        terminal.line("evil\x1b[2J [bold]text[/bold] \x07 :smile:")
        assert "evil\\x1b[2J [bold]text[/bold] \\x07 :smile:" in terminal.stream.getvalue()


@pytest.mark.parametrize("width", [10, 20, 40, 200])
def test_a_status_line_never_exceeds_the_terminal(width):
    terminal = fancy(width)
    terminal.status("步" * 50 + " step 1/2 loss 3.0")
    shown = terminal.rich.render_str(terminal.stream.getvalue().split("m", 1)[1].split("\x1b", 1)[0])
    assert shown.cell_len < width


def test_permanent_lines_go_above_the_status_line_which_is_drawn_again():
    terminal = fancy()
    terminal.status("step 1")
    terminal.line("kept")
    after = terminal.stream.getvalue().split("kept")[1]
    assert "step 1" in after
    terminal.status("")
    assert terminal.stream.getvalue().endswith("\x1b[2K")


def test_no_color_is_honoured(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = fancy()
    terminal.line("text", style="red")
    assert terminal.stream.getvalue() == "text\n"


def test_a_stream_without_the_characters_still_gets_the_text():
    for encoding in ("latin-1", "ascii"):
        for is_plain in (True, False):
            stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
            terminal = Terminal(stream, plain=is_plain, width=60)
            terminal.line("naïve 日本 \ud800")
            terminal.table([{"a": 1}])
            assert b"\\u65e5\\u672c \\ud800" in stream.buffer.getvalue()
            assert terminal.ascii


def test_a_stream_that_breaks_falls_silent():
    class Broken(io.StringIO):
        writes = 0

        def write(self, text):
            self.writes += 1
            raise BrokenPipeError

    terminal = Terminal(Broken())
    terminal.line("one")
    terminal.line("two")
    assert terminal.stream.writes == 1
    closed = Terminal(io.StringIO())
    closed.stream.close()
    closed.line("nothing raised")


def test_a_pipe_whose_reader_left_costs_neither_the_exit_code_nor_a_complaint():
    code = "from ptft.terminal import Terminal\nt = Terminal()\nfor n in range(5000): t.line('x' * 80)\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, env=environment)
    process.stdout.read(100)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("value", "name", "told"),
    [
        (1234567, "tokens", "1,234,567"),
        (1234567, "seed", "1234567"),
        (0.84637, "accuracy", "0.8464"),
        (3e-4, "lr", "3.00e-04"),
        (0.00001, "loss", "1.00e-05"),
        (123456.7, "tokens_per_second", "123,457"),
        (math.nan, "loss", "nan"),
        (-math.inf, "loss", "-inf"),
        (0.0, "loss", "0"),
        (True, "tied", "yes"),
        (None, "device", "none"),
        (["a", 1000], "labels", "a, 1,000"),
        ({"train": 1000, "valid": 10}, "rows", "train 1,000, valid 10"),
    ],
)
def test_values_are_told_as_people_read_them(value, name, told):
    assert tell(value, name) == told


def test_durations_and_sizes_carry_their_units():
    assert [as_clock(s) for s in (0, 42.4, 3599.6, 3722, 180000)] == [
        "0:00",
        "0:42",
        "1:00:00",
        "1:02:02",
        "2 d 02:00:00",
    ]
    assert [size(b) for b in (0, 999, 1500, 2.5e6, 3e9, 4e12)] == [
        "0 B",
        "999 B",
        "1.5 KB",
        "2.5 MB",
        "3.0 GB",
        "4.0 TB",
    ]


def test_a_sparkline_rises_and_falls_with_its_values():
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert sparkline([8, 1], ascii=True) == "@_"
    assert sparkline([3, math.nan, 3]) == "▁▁"
    assert sparkline([]) == ""
    assert len(sparkline(range(1000), width=40)) == 40
