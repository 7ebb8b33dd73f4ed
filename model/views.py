"""What the network is shown of a batch: each clip drawn, forged anew, augmented; a fake and its real, if asked, as one pair.

In a pair the fake was made from the real that stands in the same batch, and both go through the same frame, the same
augmentation and the same degradation: what differs between them is the forgery and nothing else, and where they differ is known
(Shiohara & Yamasaki 2022 train on such pairs; Li et al. 2020, Face X-ray, on where). Two degradations come before all others:
`poor_sources` of a real clip and of what its fake is forged from, alike, so that how good the source was says nothing while the
forgery's own trace stays whole (a donor has a draw of its own; fakes that are not forged anew are degraded as they are); and
`poor_reals` of real clips alone, since forging softens a picture. Hardened clips, real and fake, are spared both and all that comes after but a
mirror: their attack would not survive, and where it did for one class alone it would speak for that class.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from media.forgers.registry import LEAST_CHANGE
from model.augment import augment_clip, impoverish, mirror_only
from model.data import ClipSource, labels_of, to_tensor
from model.reforge import Reforger
from workspace.settings import AugmentSettings

Frames = NDArray[np.uint8]
DATA, POOR, SOURCE, DONOR = 1, 4, 6, 7  # streams of random numbers of one slot of a step
LEAST, FULL = LEAST_CHANGE / 255, 4.5 / 255  # mean difference of a cell's pixels: below the one nothing was forged, from the other on all of it


@dataclass(frozen=True, slots=True)
class View:
    """One clip as it is shown: frames [T, 3, H, W] in 0..1, and how much of each cell [T, g, g] was forged, None where that is not known."""

    frames: Tensor
    where: Tensor | None


class Views:
    """Makes the views of a batch. `single`: one frame of each clip; `pairs`: see above; `grid`: cells a side of `where`, 0 for none."""

    def __init__(self, clips: ClipSource, augment: AugmentSettings | None, seed: int, *, single: bool = False, pairs: bool = False, grid: int = 0) -> None:
        self._clips, self._augment, self._seed, self._single, self._grid = clips, augment, seed, single, grid
        self._fake = labels_of(clips.rows)
        self._reforger = Reforger(clips, augment.reforge if augment else 0.0)
        self._source = _sources(clips, self._fake) if pairs else {}
        self._hardened = (clips.rows["role"] == "hardened").to_numpy()

    def make(self, step: int, chosen: Sequence[int], slots: Sequence[int]) -> list[View]:
        """The views in `slots` of the batch of positions `chosen`. The same whichever slots are asked for together."""
        leader, spoilt = self._leaders(chosen), _Spoilt()
        shown = {slot: self._show(step, slot, leader[slot], chosen[slot], spoilt, poor=True) for slot in slots}
        views = []
        for slot in slots:
            where = None
            if self._grid and not self._fake[chosen[slot]]:
                where = torch.zeros(shown[slot][0].shape[0], self._grid, self._grid)
            elif self._grid and (first := leader[slot]) != slot:
                twin, poor = shown.get(first, (None, True))
                if twin is None or poor:
                    twin, _ = self._show(step, first, first, chosen[first], spoilt, poor=False)
                where = change(shown[slot][0], twin, self._grid)
            views.append(View(shown[slot][0], where))
        return views

    def _show(self, step: int, slot: int, leader: int, position: int, spoilt: "_Spoilt", poor: bool) -> tuple[Tensor, bool]:
        """The clip at `position`, drawn for `slot` and augmented as `leader` is, and whether, a real one and with `poor`, it was degraded first."""
        rng = np.random.default_rng([self._seed, step, DATA, slot])

        def spoil(clip: Frames, stream: tuple[int, int]) -> Frames:
            settings = self._augment
            if settings is None or settings.poor_sources <= 0:
                return clip
            return spoilt.once(clip, stream, lambda: impoverish(clip, settings.poor_sources, settings, np.random.default_rng([self._seed, step, *stream])))

        take = partial(
            self._reforger.take, single=self._single, spoil=partial(spoil, stream=(SOURCE, leader)), spoil_donor=partial(spoil, stream=(DONOR, slot))
        )
        if leader == slot:
            frames = take(position, rng)
        else:
            own, rng = rng, np.random.default_rng([self._seed, step, DATA, leader])  # from here on what the real clip drew, draw by draw
            at = int(rng.integers(self._clips.length(self._source[position]))) if self._single else None
            frames = take(position, own, at=at)
        if self._augment is None:
            return to_tensor(frames), False
        if self._hardened[position]:
            return mirror_only(frames, self._augment, rng), False
        given = frames
        if poor and not self._fake[position]:
            frames = impoverish(frames, self._augment.poor_reals, self._augment, np.random.default_rng([self._seed, step, POOR, slot]))
        return augment_clip(frames, self._augment, rng), frames is not given

    def _leaders(self, chosen: Sequence[int]) -> list[int]:
        """For each slot the one whose draws it shares: a fake's is that of the real it was made from, where that is in the batch."""
        place = {position: slot for slot, position in reversed(list(enumerate(chosen)))}
        return [place.get(self._source.get(position, -1), slot) for slot, position in enumerate(chosen)]


class _Spoilt:
    """What was degraded for a batch: a real clip and what its fake is forged from are one picture, degraded by one draw, and once is enough."""

    def __init__(self) -> None:
        self._done: dict[tuple[int, int], list[tuple[Frames, Frames]]] = {}

    def once(self, clip: Frames, stream: tuple[int, int], make: Callable[[], Frames]) -> Frames:
        """What `make` makes of the clip by the draws of `stream`, or made of the same pixels before."""
        done = self._done.setdefault(stream, [])
        for given, made in done:
            if np.array_equal(given, clip):
                return made
        done.append((clip, make()))
        return done[-1][1]


def _sources(clips: ClipSource, fake: "np.ndarray") -> dict[int, int]:
    """Position of each fake -> that of the real clip it was made from, frame by frame."""
    rows = clips.rows
    place = {str(clip_id): position for position, clip_id in enumerate(rows["clip_id"])}
    made_from = ((position, place.get(str(source))) for position, source in enumerate(rows["source_clip"]) if fake[position])
    return {position: source for position, source in made_from if source is not None and not fake[source]}


def change(forged: Tensor, real: Tensor, grid: int) -> Tensor:
    """How much of each of `grid` x `grid` cells differs between two clips [T, 3, H, W]: [T, grid, grid] in 0..1."""
    cells = F.adaptive_avg_pool2d((forged - real).abs().mean(1, keepdim=True), grid).squeeze(1)
    return ((cells - LEAST) / (FULL - LEAST)).clamp(0, 1)
