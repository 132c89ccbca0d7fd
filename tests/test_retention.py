import subprocess
import sys

import torch

from ptft.checkpoint import save
from ptft.lock import hold
from ptft.manifest import names, verify
from ptft.retention import point, retire, sweep


def commit(folder, step, run_id="one", best=False):
    return save(folder, step, {"model": {"w": torch.ones(2)}}, {}, "", {}, {"run_id": run_id}, best)


def kept(folder):
    return sorted(int(name[5:15]) for name in names(folder))


def test_the_newest_and_the_best_stay(tmp_path):
    for step in range(1, 8):
        commit(tmp_path, step, best=step in (2, 3))
    retire(tmp_path, "one", keep_last=2)
    assert kept(tmp_path) == [3, 6, 7]


def test_what_another_process_reads_stays_until_that_ends(tmp_path):
    paths = [commit(tmp_path, step) for step in range(1, 6)]
    program = f"from ptft.locate import locate; locate({str(paths[0])!r}); print('read', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "read\n"
        retire(tmp_path, "one", keep_last=2)
        assert kept(tmp_path) == [1, 4, 5]
        reader.stdin.close()
    retire(tmp_path, "one", keep_last=2)
    assert kept(tmp_path) == [4, 5]


def test_what_this_process_has_read_keeps_it_from_nothing(tmp_path):
    paths = [commit(tmp_path, step) for step in range(1, 4)]
    assert hold(paths[0] / "manifest.json") and not hold(tmp_path / "gone" / "manifest.json")
    retire(tmp_path, "one", keep_last=2)
    assert kept(tmp_path) == [2, 3]


def test_at_least_two_stay_whatever_is_asked(tmp_path):
    for step in (1, 2, 3):
        commit(tmp_path, step)
    retire(tmp_path, "one", keep_last=0)
    assert kept(tmp_path) == [2, 3]


def test_none_keeps_all(tmp_path):
    for step in (1, 2, 3):
        commit(tmp_path, step)
    retire(tmp_path, "one", keep_last=None)
    assert kept(tmp_path) == [1, 2, 3]


def test_another_runs_checkpoints_are_never_removed(tmp_path):
    for step in (100, 200, 300):
        commit(tmp_path, step, run_id="other")
    for step in (1, 2, 3):
        commit(tmp_path, step)
    retire(tmp_path, "one", keep_last=2)
    assert kept(tmp_path) == [2, 3, 100, 200, 300]


def test_age_is_the_order_of_saves_not_the_step(tmp_path):
    for step in (100, 200, 5, 6):
        commit(tmp_path, step)
    retire(tmp_path, "one", keep_last=2)
    assert kept(tmp_path) == [5, 6]


def test_pointers_say_what_the_manifests_say(tmp_path):
    for step in (1, 2, 3):
        commit(tmp_path, step, best=step == 2)
    (tmp_path / "best").write_text("step-0000000001\n")
    point(tmp_path, "one")
    assert (tmp_path / "last").read_text() == "step-0000000003\n"
    assert (tmp_path / "best").read_text() == "step-0000000002\n"


def test_without_a_best_there_is_no_pointer_to_it(tmp_path):
    commit(tmp_path, 1)
    point(tmp_path, "one")
    assert not (tmp_path / "best").exists()


def test_what_a_kill_left_is_swept_and_nothing_else(tmp_path):
    whole = commit(tmp_path, 1)
    for name in (".tmp-2-1-ab/assets", ".trash-step-0000000000"):
        (tmp_path / name).mkdir(parents=True)
    for name in (".tmp-last-1", ".tmp-2-1-ab/model.safetensors", "note.txt"):
        (tmp_path / name).write_text("half")
    sweep(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["note.txt", whole.name]
    verify(whole)
