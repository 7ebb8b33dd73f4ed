"""Forgers from outside: a real ONNX generator and real programs; what breaks the contract is refused by name, and nothing of ours leaks in."""

import os
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from media.forgers.plugins import load_plugin
from tests.faces import Clip, motion, rendered_clips
from workspace.errors import DataError
from workspace.processes import without_network
from workspace.settings import FaceSettings, PluginSettings

FACES = FaceSettings(size_px=96, fps=8.0, clip_frames=8, min_clip_frames=4, max_detect_px=256)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    return rendered_clips(tmp_path_factory.mktemp("plugins"), people=2)


def generator(path: Path, picture: np.ndarray, length: int = 8) -> Path:
    """An exported network that draws `picture` [H, W, 3], a little lighter or darker by its vector."""
    flat = (picture.astype(np.float32).transpose(2, 0, 1) / 127.5 - 1).reshape(1, -1)
    weight = np.full((length, flat.shape[1]), 0.002, np.float32)
    nodes = [helper.make_node("Gemm", ["z", "w", "b"], ["flat"]), helper.make_node("Reshape", ["flat", "shape"], ["image"])]
    kept = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(flat, "b"), numpy_helper.from_array(np.array([-1, 3, *picture.shape[:2]]), "shape")]
    given = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", length])
    made = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, *picture.shape[:2]])
    network = helper.make_model(helper.make_graph(nodes, "g", [given], [made], kept), opset_imports=[helper.make_opsetid("", 17)])
    network.ir_version = 9
    onnx.save(network, str(path))
    return path


def test_a_generated_face_is_swapped_in_or_stands_alone_and_in_a_video_it_moves(clips: list[Clip], tmp_path: Path) -> None:
    plugin = load_plugin(PluginSettings(name="stylegan", onnx=str(generator(tmp_path / "g.onnx", clips[1][0][0]))), FACES, tmp_path)
    frames, landmarks = clips[0]
    around, rim = {"picture": set(), "video": set()}, np.s_[:, 0, 0]
    for seed in range(6):
        forged, points = plugin.forge(frames, landmarks, np.random.default_rng(seed))
        assert forged.shape == frames.shape and points.shape == landmarks.shape, "a shorter fake gives itself away"
        assert np.array_equal(forged, plugin.forge(frames, landmarks, np.random.default_rng(seed))[0])
        assert motion(forged) > 0.1 * motion(frames), "a still among videos would give itself away"
        picture, _ = plugin.forge(frames[:1], landmarks[:1], np.random.default_rng(seed))
        assert picture.shape == frames[:1].shape
        around["picture"].add(np.abs(picture[rim].astype(int) - frames[:1][rim]).mean() < 1)
        around["video"].add(np.abs(forged[rim].astype(int) - frames[rim]).mean() < 1)
    assert around == {"picture": {True, False}, "video": {True, False}}, "some keep their surroundings, some are the generator's own"


def test_a_generator_without_faces_or_by_another_contract_is_refused(clips: list[Clip], tmp_path: Path) -> None:
    grey = load_plugin(PluginSettings(name="grey", onnx=str(generator(tmp_path / "grey.onnx", np.full((96, 96, 3), 90)))), FACES, tmp_path)
    with pytest.raises(DataError, match="shows no face"):
        grey.forge(*clips[0], np.random.default_rng(0))
    fixed = onnx.load(str(generator(tmp_path / "fixed.onnx", np.full((96, 96, 3), 90))))
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(fixed, str(tmp_path / "fixed.onnx"))
    with pytest.raises(DataError, match="'fixed' failed"):
        load_plugin(PluginSettings(name="fixed", onnx=str(tmp_path / "fixed.onnx")), FACES, tmp_path).forge(*clips[0], np.random.default_rng(0))
    (tmp_path / "junk.onnx").write_bytes(b"not a network")
    with pytest.raises(DataError, match="Cannot use the generator 'junk'"):
        load_plugin(PluginSettings(name="junk", onnx=str(tmp_path / "junk.onnx")), FACES, tmp_path)


def exported(path: Path, value: np.ndarray) -> Path:
    """A network that draws `value` [C, H, W], or [N, ...] of it, whatever it is given."""
    kept = [numpy_helper.from_array(value[None].astype(np.float32), "value"), numpy_helper.from_array(np.zeros((8, 1), np.float32), "w")]
    nodes = [
        helper.make_node("MatMul", ["z", "w"], ["nothing"]),
        helper.make_node("Reshape", ["nothing", "shape"], ["one"]),
        helper.make_node("Add", ["value", "one"], ["image"]),
    ]
    kept.append(numpy_helper.from_array(np.array([-1, 1, 1, 1]), "shape"))
    given = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 8])
    made = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *value.shape])
    network = helper.make_model(helper.make_graph(nodes, "g", [given], [made], kept), opset_imports=[helper.make_opsetid("", 17)])
    network.ir_version = 9
    onnx.save(network, str(path))
    return path


def wave(*shape: int) -> np.ndarray:
    return np.sin(np.arange(np.prod(shape)).reshape(shape) / 7.0)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (wave(1, 64, 64), "(1, 64, 64)"),
        (wave(64, 64, 3), "(64, 64, 3)"),
        (wave(3, 1, 512), "(3, 1, 512)"),
        (wave(3, 8, 8), "sides of 32"),
        (np.where(wave(3, 64, 64) > 0.9, np.nan, wave(3, 64, 64)), "not finite"),
        ((wave(3, 64, 64) + 1) / 2, "another range"),
        (np.where(np.arange(3 * 64 * 64).reshape(3, 64, 64) == 7, -1e-6, (wave(3, 64, 64) + 1) / 2), "another range"),
        ((wave(3, 64, 64) + 1) * 127, "another range"),
    ],
    ids=["grey", "channels last", "a line", "tiny", "nan", "0 to 1", "0 to 1 and a little below", "0 to 255"],
)
def test_a_picture_that_breaks_the_contract_is_refused_by_its_cause(clips: list[Clip], tmp_path: Path, value: np.ndarray, says: str) -> None:
    plugin = load_plugin(PluginSettings(name="odd", onnx=str(exported(tmp_path / "odd.onnx", value))), FACES, tmp_path)
    with pytest.raises(DataError, match="draws something else") as problem:
        plugin.forge(*clips[0], np.random.default_rng(0))
    assert says in problem.value.why


@pytest.mark.parametrize("length", ["D", None])
def test_a_generator_that_leaves_the_length_of_its_vector_free_is_told_to_fix_it(tmp_path: Path, length: str | None) -> None:
    """It was told to export mapping and synthesis as one network, as it had been."""
    free = onnx.load(str(exported(tmp_path / "free.onnx", wave(3, 64, 64))))
    dimension = free.graph.input[0].type.tensor_type.shape.dim[1]
    dimension.Clear()
    if length:
        dimension.dim_param = length
    onnx.save(free, str(tmp_path / "free.onnx"))
    with pytest.raises(DataError, match=r"(?s)the length D of its vector is free.*Export it with D fixed; only N may be free"):
        load_plugin(PluginSettings(name="free", onnx=str(tmp_path / "free.onnx")), FACES, tmp_path)


def test_a_generator_whose_weights_lie_beside_it_is_told_how_to_be_one_file(tmp_path: Path) -> None:
    """So torch.onnx.export writes it unless told otherwise; it was said to be no ONNX file."""
    whole = onnx.load(str(exported(tmp_path / "whole.onnx", wave(3, 64, 64))))
    onnx.save(whole, str(tmp_path / "apart.onnx"), save_as_external_data=True, location="apart.onnx.data", size_threshold=0)
    with pytest.raises(DataError, match=r"(?s)weights lie in another file.*external_data=False"):
        load_plugin(PluginSettings(name="apart", onnx=str(tmp_path / "apart.onnx")), FACES, tmp_path)


def test_a_picture_that_is_not_square_is_as_good_as_one_that_is(clips: list[Clip], tmp_path: Path) -> None:
    wide = np.pad(clips[1][0][0], ((0, 0), (40, 8), (0, 0)), mode="edge")
    plugin = load_plugin(PluginSettings(name="wide", onnx=str(generator(tmp_path / "wide.onnx", wide))), FACES, tmp_path)
    forged, _ = plugin.forge(*clips[0], np.random.default_rng(0))
    assert forged.shape == clips[0][0].shape


def test_a_clip_that_is_none_is_refused(clips: list[Clip], tmp_path: Path) -> None:
    plugin = load_plugin(PluginSettings(name="g", onnx=str(generator(tmp_path / "g.onnx", clips[1][0][0]))), FACES, tmp_path)
    frames, landmarks = clips[0]
    for odd in ((frames[:0], landmarks[:0]), (frames, np.full_like(landmarks, np.nan))):
        with pytest.raises(DataError, match="Cannot forge with 'g'"):
            plugin.forge(*odd, np.random.default_rng(0))


def command(tmp_path: Path, body: str, timeout: int = 60) -> PluginSettings:
    script = tmp_path / "forger.py"
    script.write_text(
        "import glob, os, sys, time\nfrom pathlib import Path\ngiven, made, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])\n" + body
    )
    return PluginSettings(name="mine", command=(sys.executable, str(script), "{input}", "{output}", "{seed}"), timeout_seconds=timeout)


INVERT = "import cv2\nfor path in sorted(given.glob('*.png')):\n    cv2.imwrite(str(made / path.name), 255 - cv2.imread(str(path)))\n"


def test_a_program_turns_a_clip_into_a_clip(clips: list[Clip], tmp_path: Path) -> None:
    frames, landmarks = clips[0]
    forged, points = load_plugin(command(tmp_path, INVERT), FACES, tmp_path).forge(frames, landmarks, np.random.default_rng(0))
    assert np.array_equal(forged, 255 - frames) and np.array_equal(points, landmarks)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("sys.exit('no weights here')", "no weights here"),
        ("", "0 PNGs, wanted 8"),
        ("time.sleep(60)", "longer than 1 s"),
        ("x = bytearray(20 << 30)", "ended with"),
        ("import shutil\nshutil.rmtree(os.getcwd())\nsys.exit('gone with it')", "gone with it"),
    ],
    ids=["fails", "writes nothing", "hangs", "eats memory", "takes its folder away"],
)
def test_a_program_that_breaks_the_contract_is_a_reason(clips: list[Clip], tmp_path: Path, body: str, says: str) -> None:
    with pytest.raises(DataError) as problem:
        load_plugin(command(tmp_path, body, timeout=1 if "sleep" in body else 60), FACES, tmp_path).forge(*clips[0], np.random.default_rng(0))
    assert says in str(problem.value)


def test_a_program_that_cannot_be_started_is_a_reason(clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.forgers.plugins.without_network", lambda with_its_children: ())
    plugin = load_plugin(command(tmp_path, INVERT), FACES, tmp_path)
    missing = plugin.settings.model_copy(update={"command": (str(tmp_path / "nowhere"),)})  # as if removed after the first look
    monkeypatch.setattr(plugin, "settings", missing)
    with pytest.raises(DataError, match=r"failed on a clip.*\n.*FileNotFoundError"):
        plugin.forge(*clips[0], np.random.default_rng(0))


def changing(number: int) -> str:
    """A program that changes so many frames and copies the others."""
    return INVERT.replace("255 - cv2.imread(str(path))", f"(255 - cv2.imread(str(path)) if int(path.stem) < {number} else cv2.imread(str(path)))")


def test_real_frames_that_come_back_are_no_fake(clips: list[Clip], tmp_path: Path) -> None:
    """A program that copies would put real pixels under the label fake."""
    frames, landmarks = clips[0]
    for changed in (0, 4, 7):
        with pytest.raises(DataError, match=f"{8 - changed} of 8 frames came back unchanged"):
            load_plugin(command(tmp_path, changing(changed)), FACES, tmp_path).forge(frames, landmarks, np.random.default_rng(0))
    flip = INVERT.replace(
        "    cv2.imwrite(str(made / path.name), 255 - cv2.imread(str(path)))",
        "    frame = cv2.imread(str(path))\n    frame[48, 48, 0] ^= 1\n    cv2.imwrite(str(made / path.name), frame)",
    )
    with pytest.raises(DataError, match="8 of 8 frames came back unchanged"):
        load_plugin(command(tmp_path, flip), FACES, tmp_path).forge(frames, landmarks, np.random.default_rng(0))
    twice = np.concatenate([frames, frames])[:12], np.concatenate([landmarks, landmarks])[:12]
    forged, _ = load_plugin(command(tmp_path, changing(11)), FACES, tmp_path).forge(*twice, np.random.default_rng(0))
    assert [np.array_equal(one, other) for one, other in zip(twice[0], forged, strict=True)] == [False] * 11 + [True]
    late = INVERT.replace("255 - cv2.imread(str(path))", "cv2.imread(str(sorted(given.iterdir())[max(0, int(path.stem) - 1)]))[:, ::-1]")
    with pytest.raises(DataError, match="8 of 8 frames came back unchanged, or as another of the clip's"):
        load_plugin(command(tmp_path, late), FACES, tmp_path).forge(frames, landmarks, np.random.default_rng(0))
    with pytest.raises(DataError, match="1 of 1 frames"):
        load_plugin(command(tmp_path, changing(0)), FACES, tmp_path).forge(frames[:1], landmarks[:1], np.random.default_rng(0))


def test_what_a_program_paints_beyond_the_picture_is_black_again(clips: list[Clip], tmp_path: Path) -> None:
    frames, landmarks = clips[0][0].copy(), clips[0][1]
    frames[:, :, :12] = 0
    forged, _ = load_plugin(command(tmp_path, INVERT), FACES, tmp_path).forge(frames, landmarks, np.random.default_rng(0))
    assert not forged[:, :, :11].any() and np.array_equal(forged[:, :, 15:], 255 - frames[:, :, 15:])


def test_a_pipe_in_place_of_a_picture_is_refused_and_not_waited_for(clips: list[Clip], tmp_path: Path) -> None:
    body = "for path in sorted(given.glob('*.png')):\n    os.mkfifo(made / path.name)\n"
    with pytest.raises(DataError) as problem:
        load_plugin(command(tmp_path, body), FACES, tmp_path).forge(*clips[0], np.random.default_rng(0))
    assert "00000.png" in problem.value.why and "no ordinary file" in problem.value.why


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("f'{int(path.stem) + 1}.png'", "missing: 00000.png, 00001.png, 00002.png ...; found and not expected: 1.png, 10.png, 11.png ..."),
        ("f'{int(path.stem) + 1:05d}.png'", "missing: 00000.png; found and not expected: 00012.png"),
        ("f'{max(int(path.stem), 1):05d}.png'", "11 PNGs, wanted 12; expected and missing: 00000.png; found and not expected: none"),
    ],
    ids=["no zeros", "from one", "one short"],
)
def test_frames_under_other_names_are_refused_and_not_put_into_another_order(clips: list[Clip], tmp_path: Path, name: str, says: str) -> None:
    """Sorted as text, 10.png comes before 2.png."""
    frames, landmarks = (np.concatenate([part, part])[:12] for part in clips[0])
    body = INVERT.replace("path.name", name)
    with pytest.raises(DataError) as problem:
        load_plugin(command(tmp_path, body), FACES, tmp_path).forge(frames, landmarks, np.random.default_rng(0))
    assert says in problem.value.why


def test_a_name_that_is_no_text_is_told_as_it_can_be_written_down(clips: list[Clip], tmp_path: Path) -> None:
    """The reason goes into the stage's report, which ended with a traceback."""
    body = INVERT + "\nimport os; os.close(os.open(os.fsencode(sys.argv[2]) + b'/\\xdc.png', os.O_CREAT | os.O_WRONLY))\n"
    with pytest.raises(DataError, match=r"not expected: \\udcdc.png") as problem:
        load_plugin(command(tmp_path, body), FACES, tmp_path).forge(*clips[0], np.random.default_rng(0))
    assert problem.value.why.encode()


def test_a_program_sees_no_variable_of_ours_and_nothing_is_left(clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    told = tmp_path / "told"
    body = f"Path({str(told)!r}).write_text(' '.join(sorted(os.environ)) + '|' + os.getcwd())\n" + INVERT
    load_plugin(command(tmp_path, body), FACES, tmp_path).forge(*clips[0], np.random.default_rng(0))
    names, folder = told.read_text().split("|")
    assert "AWS_SECRET_ACCESS_KEY" not in names.split() and Path(folder).parent == tmp_path and not Path(folder).exists()


def test_numpy_in_a_program_takes_no_memory_for_each_core_of_the_machine(clips: list[Clip], tmp_path: Path) -> None:
    """OpenBLAS made a thread a core, of 90 MB of address space each: on a machine of many cores a program in Python reached its bound before it had begun."""
    told = tmp_path / "told"
    body = f"import numpy\nPath({str(told)!r}).write_text(Path('/proc/self/status').read_text())\n" + INVERT
    load_plugin(command(tmp_path, body), FACES, tmp_path).forge(*clips[0], np.random.default_rng(0))
    assert "\nThreads:\t1\n" in told.read_text()


def test_a_program_may_share_among_its_processes_however_deep_the_workspace_lies(clips: list[Clip], tmp_path: Path) -> None:
    """A path of a socket has 107 bytes at most, and Python and torch put theirs into TMPDIR: their workers failed in a folder of the workspace."""
    body = "import multiprocessing\nif __name__ == '__main__':\n    multiprocessing.Manager().shutdown()\n" + INVERT
    load_plugin(command(tmp_path, body), FACES, tmp_path / ("deep" * 20)).forge(*clips[0], np.random.default_rng(0))
    assert not list((tmp_path / ("deep" * 20)).iterdir())


def test_a_program_has_no_network(clips: list[Clip], tmp_path: Path) -> None:
    if not without_network():
        pytest.skip("this system does not let an ordinary user take a program's network away")
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=server.accept, daemon=True).start()
        body = f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)\n"
        with pytest.raises(DataError, match="ended with 1"):
            load_plugin(command(tmp_path, body), FACES, tmp_path).forge(*clips[0], np.random.default_rng(0))
        socket.create_connection(server.getsockname(), 5).close()  # it was the network that was missing, not the server


def test_a_child_that_left_the_group_of_a_program_ends_with_it(clips: list[Clip], tmp_path: Path) -> None:
    if not without_network(with_its_children=True):
        pytest.skip("this system does not let an ordinary user bound a program's processes")
    mark = f"left behind by {tmp_path}"
    body = f"import subprocess\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)', {mark!r}], start_new_session=True)\n" + INVERT
    load_plugin(command(tmp_path, body), FACES, tmp_path).forge(*clips[0], np.random.default_rng(0))
    for _ in range(100):
        left = [process for process in psutil.process_iter(["cmdline"]) if mark in (process.info["cmdline"] or [])]
        if not left:
            return
        time.sleep(0.1)
    pytest.fail(f"still there: {left}")


def test_a_child_that_writes_on_while_its_folder_is_removed_is_no_failure_of_ours(clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where children cannot be ended with their program: the folder was not empty when it was to go, and the stage ended with a traceback."""
    monkeypatch.setattr("media.forgers.plugins.without_network", lambda with_its_children: ())
    told = tmp_path / "told"
    on = "import os\nfor number in range(10**9):\n    os.makedirs('out', exist_ok=True)\n    open(f'out/{number}', 'w').close()\n"
    body = (
        f"import subprocess\nchild = subprocess.Popen([sys.executable, '-c', {on!r}], start_new_session=True)\n"
        f"Path({str(told)!r}).write_text(str(child.pid))\ntime.sleep(60)\n"
    )
    try:
        with pytest.raises(DataError, match="longer than 3 s"):
            load_plugin(command(tmp_path, body, timeout=3), FACES, tmp_path).forge(*clips[0], np.random.default_rng(0))
    finally:
        os.kill(int(told.read_text()), signal.SIGKILL)


def test_a_program_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    assert shutil.which("no-such-forger") is None and os.name == "posix"
    with pytest.raises(DataError, match="no program 'no-such-forger'"):
        load_plugin(PluginSettings(name="gone", command=("no-such-forger",)), FACES, tmp_path)


def test_a_program_that_is_named_from_this_folder_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was found from here and started in a folder of its own: each clip failed."""
    (tmp_path / "mine").write_text("#!/bin/sh\n")
    (tmp_path / "mine").chmod(0o700)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="by the whole path"):
        load_plugin(PluginSettings(name="mine", command=("./mine",)), FACES, tmp_path)
