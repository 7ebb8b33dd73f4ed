"""Colour profiles as cameras, editors and presses lay into photos (ICC.1), and colours reckoned as they say, by another way than the code's."""

import struct

import numpy as np

D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[1.0479298, 0.0229468, -0.0501922], [0.0296278, 0.9904345, -0.0170738], [-0.0092430, 0.0150552, 0.7518743]])  # D65 to D50
D65 = (0.3127, 0.3290)
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
PROPHOTO = ((0.734699, 0.265301), (0.159597, 0.840403), (0.036598, 0.000105))
SRGB_CURVE = b"para" + bytes(4) + struct.pack(">HH5i", 3, 0, *(round(65536 * number) for number in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))


def gamma_curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IHxx", 1, round(256 * gamma))


def to_light(values, gamma: float | None) -> np.ndarray:
    """Light 0..1 of coded values 0..1; of sRGB without a gamma."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) if gamma is None else values**gamma


def to_code(light, gamma: float | None) -> np.ndarray:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055) if gamma is None else light ** (1 / gamma)


def matrix_of(primaries, white=D65) -> np.ndarray:
    """[3, 3] from light of the primaries to XYZ under D50."""
    lines = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    seen = np.array([white[0] / white[1], 1, (1 - sum(white)) / white[1]])
    plain = lines * np.linalg.solve(lines, seen)
    return BRADFORD @ plain if white == D65 else plain


def coded_in(picture: np.ndarray, primaries, gamma: float | None, white=D65) -> np.ndarray:
    """The sRGB `picture` in 8-bit codes of another space of colours."""
    light = to_light(picture / 255, None) @ (np.linalg.inv(matrix_of(primaries, white)) @ matrix_of(SRGB)).T
    return np.rint(255 * to_code(light.clip(0, 1), gamma)).astype(np.uint8)


def profile(space: bytes, *tags: tuple[bytes, bytes], kind: bytes = b"mntr", link: bytes = b"XYZ ") -> bytes:
    """An ICC profile of these tags, and of those that each must have."""
    name = b"made by a test\0"
    told = b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78)
    rows = [(b"desc", told), (b"cprt", b"text" + bytes(4) + b"none\0"), (b"wtpt", _xyz(D50)), *tags]
    table, body = struct.pack(">I", len(rows)), b""
    for tag, content in rows:
        table += tag + struct.pack(">II", 128 + 4 + 12 * len(rows) + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s28x3i48x", 132 + 12 * len(rows) + len(body), 0x02400000, kind, space, link, b"acsp", *_fixed(D50))
    return head + table + body


def rgb_profile(primaries, curve: bytes = SRGB_CURVE, white=D65, more=()) -> bytes:
    columns = zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(_xyz, matrix_of(primaries, white).T), strict=True)
    return profile(b"RGB ", *columns, *((name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")), *more)


def grey_profile(curve: bytes) -> bytes:
    return profile(b"GRAY", (b"kTRC", curve))


def press_profile(shown: dict[tuple[int, int, int, int], tuple[float, float, float]]) -> bytes:
    """Of a press: C, M, Y and K, each none (0) or full (1), to CIE Lab; what is not named is the darkest."""
    corners = [shown.get((k >> 3 & 1, k >> 2 & 1, k >> 1 & 1, k & 1), (0.0, 0.0, 0.0)) for k in range(16)]
    table = bytes(value for L, a, b in corners for value in (round(L * 2.55), round(a + 128), round(b + 128)))
    straight = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + struct.pack(">9i", *_fixed(np.eye(3).ravel())) + 4 * straight + table + 3 * straight
    return profile(b"CMYK", (b"A2B0", lut), kind=b"prtr", link=b"Lab ")


def program_profile(steps: int) -> bytes:
    """Display P3 with a calculation of so many steps beside it, which LittleCMS prefers; each is the same bytes of the file, and changes nothing."""
    step = b"matf" + bytes(4) + struct.pack(">HH12f", 3, 3, *np.eye(3).ravel(), 0, 0, 0)
    program = b"mpet" + bytes(4) + struct.pack(">HHI", 3, 3, steps) + struct.pack(">II", 16 + 8 * steps, len(step)) * steps + step
    return rgb_profile(DISPLAY_P3, more=((b"D2B1", program),))


def _fixed(numbers) -> list[int]:
    return [round(65536 * float(number)) for number in numbers]


def _xyz(values) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *_fixed(values))
