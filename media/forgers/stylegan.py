"""MobileStyleGAN (Belousov 2021, arXiv 2104.04767): a StyleGAN2 of 1024 px, trained on FFHQ, made small enough for a CPU; about 0.2 s a face.

Its networks are files of the wheel random-face (Apache-2.0; distilled from StyleGAN2 and FFHQ, whose own terms are for research), pinned
like every other requirement, found through its metadata and checked by hash; the wheel's own code is never imported. A mapping makes a style of a
random vector, a synthesis a picture of the style; styles are drawn towards their mean (the truncation of Karras et al. 2019), by a part that each
face draws anew.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from media.forgers.generators import FaceGenerator
from media.forgers.openvino_ir import to_onnx
from workspace.settings import FaceSettings
from workspace.wheels import published

if TYPE_CHECKING:
    import onnxruntime

WHEEL = "random-face"
FOLDER = "random_face/data"
SHA256 = {
    "mobilestylegan_ffhq_mnet.xml": "9e9ef6ea4fc7db3f5721878b3c20aed9e5a45a23557276cd39b349b7bd149ba3",
    "mobilestylegan_ffhq_mnet.bin": "b22ae1afc80dbcb72e50a3b40d43aada5406f7caf0b0b0a14e4d8f161ecf74f8",
    "mobilestylegan_ffhq_snet.xml": "f69fbec3fca8e04b239baaef9433419c7354b003a4ff0325a62993cf6c074eb2",
    "mobilestylegan_ffhq_snet.bin": "0f8d83fa134bf76dd8d2126e91b9cf4cef88450d65415293333d90e407a8913e",
}
LENGTH = 512  # of a vector and of a style
STYLES = 1024  # whose mean is taken for that of all
TRUNCATION = (0.5, 0.9)  # how much of a style's distance from the mean is kept: 1 shows faces that fell apart, 0 always the same


class MobileStyleGan(FaceGenerator):
    """The forger `mobile_stylegan`. Its faces are never swapped into a clip, so that whoever learns it learns what it draws. Raises ModelFileError."""

    name = "mobile_stylegan"
    origin = f"{WHEEL}, sha256 of its synthesis {SHA256['mobilestylegan_ffhq_snet.bin']}"
    swapped = 0.0

    def __init__(self, faces: FaceSettings) -> None:
        import onnxruntime

        super().__init__(faces)

        def session(network: str) -> onnxruntime.InferenceSession:
            model = to_onnx(_content(f"mobilestylegan_ffhq_{network}.xml"), _content(f"mobilestylegan_ffhq_{network}.bin"))
            return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

        self._mapping, self._synthesis = session("mnet"), session("snet")
        rng = np.random.default_rng(0)
        self._mean = np.mean([self._style(rng) for _ in range(STYLES)], axis=0)  # [1, 512]

    def _style(self, rng: np.random.Generator) -> NDArray[np.float32]:
        return _run(self._mapping, rng.standard_normal((1, LENGTH)).astype(np.float32))

    def _picture(self, rng: np.random.Generator) -> NDArray[np.floating]:
        style = self._mean + rng.uniform(*TRUNCATION) * (self._style(rng) - self._mean)
        return _run(self._synthesis, style.astype(np.float32))[0]


def _run(session: "onnxruntime.InferenceSession", given: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: given})[0]
    return found


def _content(name: str) -> bytes:
    what, instead = "The networks of MobileStyleGAN", "; or take mobile_stylegan out of forge.forgers"
    return published(WHEEL, f"{FOLDER}/{name}", SHA256[name], what, instead)
