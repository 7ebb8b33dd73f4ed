"""What a step is shown does not depend on who made it: a thread, or processes as beside a GPU; and what goes wrong there is told here."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from media.shards import ShardWriter, read_index
from model import ahead, training
from model.ahead import Ahead
from model.data import ClipDataset
from model.training import pretrain
from model.views import View, Views
from tests.model.test_training import AUGMENT, PHASE1, same
from tests.model.toys import small_model, toy_clip, toy_clips
from tests.workspace.test_pool import wait_until_gone
from workspace.errors import MediaError, SettingsError

CPU, GPU = torch.device("cpu"), torch.device("meta")  # a device that is no CPU: nothing is put on it


@pytest.fixture(autouse=True)
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many processes on every machine."""
    monkeypatch.setattr(ahead, "cores_here", lambda: 3)  # one is the network's


def choose(step: int) -> list[int]:
    return [(5 * step + place) % 20 for place in range(7)]


@pytest.mark.parametrize(("single", "first"), [(True, 0), (False, 3)])
def test_processes_show_the_very_pixels_that_a_thread_shows(single: bool, first: int) -> None:
    views = Views(toy_clips(20, lengths=(3, 2)), AUGMENT, 4, single=single, pairs=True, grid=4 if single else 0)
    with Ahead(choose, views.make, 6, CPU) as thread, Ahead(choose, views.make, 6, GPU) as processes:
        for step in range(first, 6):
            (chosen, shown), (also, made) = thread.at(step), processes.at(step)
            assert chosen == also == choose(step) and len(shown) == len(made) == 7
            for one, other in zip(shown, made, strict=True):
                assert torch.equal(one.frames, other.frames) and (one.where is None) == (other.where is None)
                assert one.where is None or other.where is None or torch.equal(one.where, other.where)


def test_a_training_that_processes_feed_ends_with_the_weights_of_one_that_a_thread_feeds(tmp_path, monkeypatch):
    def trained(folder, device):
        monkeypatch.setattr(training, "Ahead", lambda choose, make, steps, _: Ahead(choose, make, steps, device))
        model = small_model(1)
        pretrain(model, toy_clips(20, lengths=(3, 2)), toy_clips(8, seed=9), PHASE1, 3, folder, augment=AUGMENT)
        return model

    assert same(trained(tmp_path / "thread", CPU), trained(tmp_path / "processes", GPU))


def blank(step: int, chosen: list[int], slots: range) -> list[View]:
    """What another process can be told to make: it finds this by its name."""
    return [View(torch.full((1, 3, 2, 2), float(step)), None) for _ in slots]


def test_a_thread_makes_the_next_batch_while_the_network_works_and_none_after_the_last() -> None:
    begun, next_one, asked = threading.Event(), threading.Event(), list[int]()

    def choose_and_tell(step: int) -> list[int]:
        asked.append(step)
        return choose(step)

    def make(step: int, chosen: list[int], slots: range) -> list[View]:
        (begun if step == 0 else next_one).set()
        return blank(step, chosen, slots)

    with Ahead(choose_and_tell, make, 2, CPU) as given:
        given.at(0)
        assert begun.is_set() and next_one.wait(60), "nobody asked for it yet"
        assert float(given.at(1)[1][0].frames.mean()) == 1
    assert asked == [0, 1]


def damaged(step: int, chosen: list[int], slots: range) -> list[View]:
    if step == 2:
        raise MediaError("A shard is damaged.", why="its hash is another", next_step="Run `dvc pull`.")
    return blank(step, chosen, slots)


def killed(step: int, chosen: list[int], slots: range) -> list[View]:
    if step == 4:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory runs out
    return blank(step, chosen, slots)


@dataclass
class Keeps:
    """Reads all clips and shows how many of them are kept in memory."""

    clips: ClipDataset

    def __call__(self, step: int, chosen: list[int], slots: range) -> list[View]:
        for position in range(len(self.clips)):
            self.clips.clip(position)
        return [View(torch.full((1, 3, 2, 2), float(len(self.clips._cache))), None)]


def test_a_clip_that_cannot_be_read_is_told_in_its_own_words() -> None:
    for device in (CPU, GPU):
        with Ahead(choose, damaged, 5, device) as given, pytest.raises(MediaError) as refusal:
            for step in range(5):
                assert float(given.at(step)[1][0].frames.mean()) == step < 2
        assert refusal.value.next_step == "Run `dvc pull`." and refusal.value.why == "its hash is another"
        assert str(refusal.value).splitlines()[0] == "A shard is damaged."


@pytest.mark.parametrize("steps", [9, 400])
def test_a_process_that_is_killed_ends_the_training_with_words_and_without_waiting(steps: int) -> None:
    """Whether all batches were asked for by then or, while the network worked, more are."""
    with Ahead(choose, killed, steps, GPU) as given, pytest.raises(SettingsError, match="was ended") as refusal:
        for step in range(steps):
            given.at(step)
            time.sleep(0.2)
    assert "shm" in refusal.value.next_step and "memory" in refusal.value.why


def test_processes_share_the_bound_of_what_is_kept_in_memory(tmp_path: Path) -> None:
    rng, one = np.random.default_rng(0), 3 * 32 * 32 * 3
    with ShardWriter(tmp_path / "data/faces/b") as writer:
        for number in range(6):
            writer.add({"clip_id": f"c{number}", "label": "real"}, toy_clip(False, rng), np.zeros((3, 468, 2)))
    clips = ClipDataset(tmp_path, read_index(tmp_path / "data/faces/b").assign(store="data/faces/b"), cache_bytes=6 * one)
    assert clips.clip(0).nbytes == one and not pickle.loads(pickle.dumps(clips))._cache  # what was read here is not sent along
    for device, kept in ((GPU, 3), (CPU, 6)):
        with Ahead(lambda step: [0], Keeps(clips), 3, device) as given:
            assert [float(given.at(step)[1][0].frames.mean()) for step in range(3)] == [kept] * 3


ENDED = """
import sys, time
sys.path.insert(0, sys.argv[1])
if __name__ == "__main__":
    from model import ahead
    from tests.model.test_ahead import GPU, Ahead, blank, choose
    ahead.cores_here = lambda: 3
    with Ahead(choose, blank, 10**9, GPU) as given:
        for step in range(10**9):
            given.at(step)
            print(step, flush=True)
            time.sleep(0.05)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_the_training_that_asked_for_them(tmp_path: Path, number: signal.Signals) -> None:
    """Killed, or by Ctrl-C in a terminal, which all of them hear."""
    (tmp_path / "training.py").write_text(ENDED)
    words = [sys.executable, str(tmp_path / "training.py"), str(Path(__file__).resolve().parents[2])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as training_:
        assert training_.stdout is not None and training_.stderr is not None
        training_.stdout.readline()
        children = psutil.Process(training_.pid).children(recursive=True)
        assert len(children) >= 2
        os.killpg(training_.pid, number) if number == signal.SIGINT else training_.kill()
        said = training_.stderr.read() if number == signal.SIGINT else ""
        assert said.count("Traceback") <= 1, said  # its own, and none of theirs
        wait_until_gone(children)
