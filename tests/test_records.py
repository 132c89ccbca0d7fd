import json
import math

from ptft import records


def row(step: int, split: str = "train", **values) -> dict:
    return {"step": step, "split": split, **values}


def write_metrics(folder, rows) -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_rows_after_the_resumed_step_are_void_but_those_written_since_hold(tmp_path):
    write_metrics(
        tmp_path,
        [row(10, loss=3.0), row(20, loss=2.0), row(30, loss=9.0), {"superseded_after": 20}, row(30, loss=1.0)],
    )
    assert records.curve(records.metrics(tmp_path), "train", "loss") == ([10, 20, 30], [3.0, 2.0, 1.0])


def test_a_run_resumed_twice_counts_each_step_once(tmp_path):
    write_metrics(
        tmp_path,
        [
            row(1, loss=1),
            row(2, loss=2),
            {"superseded_after": 1},
            row(2, loss=3),
            {"superseded_after": 0},
            row(1, loss=4),
        ],
    )
    assert records.curve(records.metrics(tmp_path), "train", "loss") == ([1], [4])


def test_torn_and_foreign_lines_are_passed_over(tmp_path):
    text = '{"step": 1, "split": "train", "loss": 2.0}\n[1]\n{"skipped": "step-3"}\n\n{"step": 2, "split": "tra'
    (tmp_path / "metrics.jsonl").write_text(text, encoding="utf-8")
    assert records.metrics(tmp_path) == [row(1, loss=2.0)]
    assert records.metrics(tmp_path / "nowhere") == []


def test_numbers_that_json_cannot_say_are_read_from_text(tmp_path):
    write_metrics(tmp_path, [row(1, loss="nan", lr="inf")])
    (found,) = records.metrics(tmp_path)
    assert math.isnan(found["loss"])
    assert found["lr"] == math.inf
    assert records.curve([found], "train", "loss") == ([], [])


def test_lineage_ends_where_a_parent_names_its_own_child(tmp_path):
    for name, parent in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        run = {"run_id": name, "argv": ["x", "pretrain"], "parent": {"path": str(tmp_path / parent), "run_id": parent}}
        (tmp_path / name / "run.json").write_text(json.dumps(run))
    assert [ancestor["run_id"] for ancestor in records.lineage(tmp_path / "a")] == ["b"]
