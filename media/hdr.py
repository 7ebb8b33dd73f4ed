"""HDR video as a screen of standard range shows it: PQ (SMPTE ST 2084) and HLG (ITU-R BT.2100), of the primaries of BT.2020, made sRGB.

HLG is shown as on a screen of 1000 cd/m2; PQ beyond these is cut. Paper white is 203 cd/m2 in both (ITU-R BT.2408) and is the brightest
that sRGB has; what shines brighter is bent below it, from 88 cd/m2 on, by the curve of ITU-R BT.2390 (5.4.1), a colour at a time. Faces in
ordinary light mostly lie below that. Colours beyond those of sRGB are cut.
"""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

PQ, HLG = 16, 18  # transfer characteristics of ITU-T H.273
TRANSFERS = (PQ, HLG)
PEAK, WHITE = 1000.0, 203.0  # cd/m2
HLG_GAMMA = 1.2  # of a screen of PEAK
LUMINANCE = np.array([[0.2627, 0.6780, 0.0593]], np.float32)  # BT.2020
TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)  # ITU-R BT.2087
CODES = 1 << 12  # that the tables tell apart, as many as any of these videos has
AT_ONCE = 1 << 16  # pixels, which stay in the processor's memory from step to step


def as_shown(coded: NDArray[np.uint16], transfer: int) -> NDArray[np.uint8]:
    """sRGB [H, W, 3] of a picture of full range R'G'B' in 16 bits, coded by `transfer`."""
    light_of, shown = _light(transfer), np.empty(coded.shape, np.uint8)
    rows = max(1, AT_ONCE // coded.shape[1])
    for top in range(0, len(coded), rows):
        light = light_of.take(coded[top : top + rows] >> 4)  # [rows, W, 3] of PEAK
        if transfer == HLG:
            light *= cv2.pow(cv2.transform(light, LUMINANCE), HLG_GAMMA - 1)[..., None]
        np.take(_srgb(), _places(cv2.transform(light, TO_BT709)), out=shown[top : top + rows])
    return shown


def _places(light: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Where light of PEAK stands in a table: by its root, as dark levels lie nearer to each other."""
    return (np.sqrt(light.clip(0, 1)) * (CODES - 1) + 0.5).astype(np.uint16)


@cache
def _light(transfer: int) -> NDArray[np.float32]:
    """Light of PEAK for each code: of the screen, of HLG of the scene."""
    signal = np.linspace(0, 1, CODES)
    if transfer == PQ:
        return np.minimum(_pq_light(signal) / PEAK, 1).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)


@cache
def _srgb() -> NDArray[np.uint8]:
    """The level of sRGB for each place of light."""
    light = _pq_light(_bent(_pq_signal(PEAK * np.linspace(0, 1, CODES) ** 2))) / WHITE
    return (255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)).clip(0, 255).round().astype(np.uint8)


def _bent(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """PQ of up to PEAK as PQ of up to WHITE (BT.2390: E1, E2 in parts of PEAK's signal, KS where the curve begins)."""
    peak = _pq_signal(np.array(PEAK))
    most = _pq_signal(np.array(WHITE)) / peak
    begins = 1.5 * most - 0.5
    part = signal / peak
    t = (part - begins) / (1 - begins)
    curve = (2 * t**3 - 3 * t**2 + 1) * begins + (t**3 - 2 * t**2 + t) * (1 - begins) + (-2 * t**3 + 3 * t**2) * most
    return peak * np.where(part < begins, part, curve)


M1, M2, C1, C2, C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128  # ST 2084


def _pq_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """cd/m2."""
    root = signal ** (1 / M2)
    return 10000 * (np.maximum(root - C1, 0) / (C2 - C3 * root)) ** (1 / M1)


def _pq_signal(light: NDArray[np.float64]) -> NDArray[np.float64]:
    root = (light / 10000) ** M1
    return ((C1 + C2 * root) / (1 + C3 * root)) ** M2
