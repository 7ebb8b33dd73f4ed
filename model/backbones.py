"""Frame encoders: pictures [N, 3, H, W] (normalised) in, feature maps [N, F, h, w] out.

`resnext_tiny` and `resnext_small` are ResNeXts (Xie et al. 2017: residual bottlenecks with grouped convolutions) small
enough for a CPU. They also see the picture's high-pass residual (picture less its 3x3 mean), because the traces of a
forgery are small beside the picture itself. `efficientnet_lite0` comes with ImageNet weights that need no network
(model/lite.py). `meso4` and `xception` are the literature's (model/rivals.py); every other name is a torchvision classifier, Swin and ViT included.
"""

import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.lite import WEIGHTS, EfficientNetLite0
from model.rivals import Meso4, SwinMap, VitMap, Xception
from workspace.errors import ModelFileError, SettingsError
from workspace.files import sha256_file

STEM = 16
# name: (stem width, [(width, blocks, stride), ...], channels a group)
OWN = {
    "resnext_tiny": (24, [(48, 1, 2), (96, 2, 2), (160, 2, 1)], 16),
    "resnext_small": (32, [(64, 2, 2), (160, 3, 2), (288, 4, 2), (384, 2, 1)], 16),
}

# of the literature, not in torchvision
WRITTEN: dict[str, Callable[[], nn.Module]] = {
    "meso4": Meso4,
    "xception": Xception,
    "efficientnet_lite0": EfficientNetLite0,
}

# and with the published weights that come with the installation, by their name
INSTALLED: dict[str, dict[str, Callable[[], nn.Module]]] = {"efficientnet_lite0": {WEIGHTS: partial(EfficientNetLite0, published=True)}}

# families of torchvision whose layers follow one another: the first that no longer gives a map
AFTER_THE_MAP = {"resnet": "avgpool", "resnext": "avgpool", "wide_resnet": "avgpool", "regnet": "avgpool", "shufflenet": "fc", "mnasnet": "classifier"}


class ResNeXtBlock(nn.Module):
    """1x1 down, grouped 3x3, 1x1 up, and the shortcut. Half the output width inside."""

    def __init__(self, inputs: int, outputs: int, stride: int, group: int) -> None:
        super().__init__()
        inner = max(group, outputs // 2)
        self.reduce = nn.Sequential(nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(inplace=True))
        self.grouped = nn.Sequential(nn.Conv2d(inner, inner, 3, stride, 1, groups=inner // group, bias=False), nn.BatchNorm2d(inner), nn.ReLU(inplace=True))
        self.expand = nn.Sequential(nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride) if stride > 1 else nn.Identity(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )
        nn.init.zeros_(self.expand[1].weight)  # type: ignore[arg-type]  # each block starts as its shortcut (Goyal et al. 2017)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] -> [N, outputs, h/stride, w/stride]."""
        return F.relu(self.shortcut(x) + self.expand(self.grouped(self.reduce(x))))


class SmallResNeXt(nn.Module):
    """A stem that looks at full resolution once, then stages of ResNeXt blocks from half of it downwards.

    Without the first, cheap layer at full resolution the held-out AUC of the demo's network was 0.79 instead of 0.83.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        width, stages, group = OWN[name]
        self.stem = nn.Sequential(
            nn.Conv2d(6, STEM, 3, 1, 1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU(inplace=True),
            nn.Conv2d(STEM, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
        )  # fmt: skip
        blocks: list[nn.Module] = []
        for outputs, count, stride in stages:
            for position in range(count):
                blocks.append(ResNeXtBlock(width, outputs, stride if position == 0 else 1, group))
                width = outputs
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] normalised -> [N, F, h, w]."""
        residual = x - F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
        return self.blocks(self.stem(torch.cat([x, 4.0 * residual], 1)))  # residuals are a few times smaller than pictures


def build_backbone(name: str, weights: str = "", size_px: int = 224) -> nn.Module:
    """The encoder called `name`, with the backbone weights of a safetensors file, or torchvision's own of the name `weights` (IMAGENET1K_V2).

    Those of `efficientnet_lite0` are installed;
    torchvision's are fetched once and checked by hash; where they cannot be had a line says so, and the encoder starts from random
    weights. Raises SettingsError for an unknown name or a classifier whose features are not a map, ModelFileError for a file that
    does not fit. torchvision is imported only for its own names (5 s).
    """
    if weights.isidentifier():
        return _pretrained(name, weights, size_px)
    return _from_file(name, Path(weights), size_px) if weights else _from_scratch(name, size_px)


def refuse_unknown_backbone(name: str) -> None:
    """Raise SettingsError unless `name` is one of ours or a torchvision classifier."""
    if name in OWN or name in WRITTEN:
        return
    import torchvision

    if name not in torchvision.models.list_models(module=torchvision.models):
        raise SettingsError(
            f"Unknown backbone {name!r}.",
            why="it is neither one of ours nor a torchvision classifier",
            next_step=f"Use {', '.join([*OWN, *WRITTEN])}, resnext50_32x4d or another as model.backbone in params.yaml.",
        )


def refuse_unknown_weights(name: str, weights: str, size_px: int) -> None:
    """Raise what `build_backbone` would of these weights: SettingsError where nobody publishes them, ModelFileError where they do not fit. Fetches nothing."""
    if weights.isidentifier():
        _refuse_unpublished(name, weights, size_px)
    else:
        build_backbone(name, weights, size_px)


def at_hand(name: str, weights: str) -> bool:
    """Whether these weights are on this machine: of an encoder that `build_backbone` just made, whether it began with them. Fetches nothing."""
    if not weights.isidentifier() or weights in INSTALLED.get(name, {}):
        return bool(weights)
    return _kept(_address(name, weights)).is_file()


def _from_scratch(name: str, size_px: int) -> nn.Module:
    if name in OWN:
        return SmallResNeXt(name)
    if name in WRITTEN:
        return WRITTEN[name]()
    return _features_of(name, _classifier(name, size_px))


def _from_file(name: str, path: Path, size_px: int) -> nn.Module:
    """The encoder with the weights of a safetensors file, under its own names or those of torchvision's whole classifier, whose head may be any."""
    from safetensors.torch import load_file

    ours = name in OWN or name in WRITTEN
    classifier = _from_scratch(name, size_px) if ours else _classifier(name, size_px)
    encoder = classifier if ours else _features_of(name, classifier)
    next_step = f"Name a safetensors file of {name}{'' if ours else ', such as the state_dict of torchvision'}, or leave `model.weights` empty."
    named = {id(tensor): key for key, tensor in classifier.state_dict(keep_vars=True).items()}
    theirs = {key: named[id(tensor)] for key, tensor in encoder.state_dict(keep_vars=True).items()}  # one tensor, the encoder's name and the classifier's
    try:
        found = load_file(path)
        whole = {key: found[name_there] for key, name_there in theirs.items() if name_there in found}
        missing, _ = encoder.load_state_dict(whole or found, strict=False)
    except Exception as problem:
        raise ModelFileError(f"Cannot start from {path}.", why=str(problem)[:300], next_step=next_step) from problem
    if missing:
        raise ModelFileError(f"Cannot start from {path}.", why=f"{len(missing)} tensors of {name} are not in it, {missing[0]} first", next_step=next_step)
    return encoder


def _pretrained(name: str, weights: str, size_px: int) -> nn.Module:
    """torchvision's classifier with its published weights, or from scratch, plainly said, where this machine cannot fetch them; or our Lite0 with its own."""
    if weights in INSTALLED.get(name, {}):
        return INSTALLED[name][weights]()
    _refuse_unpublished(name, weights, size_px)
    classifier = _classifier(name, size_px)
    try:
        path = _fetched(_address(name, weights))
    except OSError as problem:
        print(f"Weights {weights} of {name} could not be fetched ({problem}): starting from random weights instead. Nothing else changes.", file=sys.stderr)
    else:
        try:
            classifier.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))  # tensors alone: no code of the file runs
        except RuntimeError as problem:
            raise _misfit(name, weights, size_px, str(problem).splitlines()[-1].strip()[:300]) from problem
    return _features_of(name, classifier)


def _refuse_unpublished(name: str, weights: str, size_px: int) -> None:
    """Raise SettingsError where nobody publishes such weights of the encoder, ModelFileError where those are of another size. Fetches nothing."""
    installed = INSTALLED.get(name, {})
    if weights in installed:
        return
    import torchvision

    ours = name in OWN or name in WRITTEN
    refuse_unknown_backbone(name)
    published: Mapping[str, Any] = {} if ours else torchvision.models.get_model_weights(name).__members__
    if weights not in published:
        offered = list(installed) if ours else list(published)
        raise SettingsError(
            f"There are no weights called {weights!r} for {name}.",
            why=f"there are {', '.join(offered)}" if offered else "nobody publishes weights of networks written here",
            next_step="Mend model.weights in params.yaml: one of these names, the path of a safetensors file, or empty.",
        )
    if name.startswith("vit_") and (trained := published[weights].meta["min_size"][0]) != size_px:  # its places are those of that size
        raise _misfit(name, weights, size_px, f"they were trained at {trained} px, and a ViT works at one size")


def _misfit(name: str, weights: str, size_px: int, why: str) -> ModelFileError:
    step = "Set faces.size_px to what they were trained at (224 for most ViTs), or leave model.weights empty."
    return ModelFileError(f"The weights {weights} do not fit {name} at {size_px} px.", why=why, next_step=step)


def _address(name: str, weights: str) -> str:
    import torchvision

    return str(torchvision.models.get_model_weights(name)[weights].url)


def _fetched(address: str) -> Path:
    """The file of a published address, fetched once into torch's own cache; its name carries the first digits of its sha256.

    Raises OSError where it cannot be fetched whole, ModelFileError where the file that lies there is another.
    """
    path = _kept(address)
    found = torch.hub.HASH_REGEX.search(path.name)  # type: ignore[attr-defined]
    digits = found.group(1) if found else ""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(address, str(path), hash_prefix=digits, progress=False)
        except RuntimeError as problem:  # a connection that was cut gives a short file and no other word; torch keeps nothing of it
            raise OSError(f"what came is not the file that was published: {problem}") from problem
    if not digits or not sha256_file(path).startswith(digits):
        raise ModelFileError(
            f"Refused {path}. Nothing was loaded.", why="it is not the file that was published", next_step="Delete it; it will be fetched again."
        )
    return path


def _kept(address: str) -> Path:
    """Where torch keeps the file of a published address."""
    return Path(torch.hub.get_dir()) / "checkpoints" / address.rsplit("/", 1)[-1]


def _classifier(name: str, size_px: int) -> nn.Module:
    """torchvision's classifier of this name, from scratch. Raises SettingsError where there is none."""
    import torchvision

    refuse_unknown_backbone(name)
    sized = {"image_size": size_px} if name.startswith("vit_") else {}  # its places are learned: it works at one size
    return torchvision.models.get_model(name, weights=None, **sized)


def _features_of(name: str, classifier: nn.Module) -> nn.Module:
    if name.startswith("swin_"):
        return SwinMap(classifier)
    if name.startswith("vit_"):
        return VitMap(classifier)
    if hasattr(classifier, "features"):
        return classifier.features  # VGG, AlexNet, DenseNet, MobileNet, EfficientNet, ConvNeXt, SqueezeNet
    if end := next((layer for family, layer in AFTER_THE_MAP.items() if name.startswith(family)), ""):
        children = list(classifier.named_children())
        return nn.Sequential(OrderedDict(children[: [layer for layer, _ in children].index(end)]))
    raise SettingsError(
        f"Backbone {name!r} cannot be used.",
        why="Vigil does not know which of its layers gives the map of features",
        next_step="Use another convolutional classifier, e.g. resnext50_32x4d.",
    )


def refuse_side(name: str, side: int) -> None:
    """Raise SettingsError where the encoder called `name` makes no map of a picture `side` px wide."""
    try:
        feature_shape(_from_scratch(name, side), side)
    except (RuntimeError, AssertionError, ValueError, ZeroDivisionError) as problem:
        raise SettingsError(
            f"The backbone {name} does not take pictures of {side} px.",
            why=f"faces.size_px divided by model.shrink is {side}; " + (str(problem).splitlines() or [type(problem).__name__])[0][:200],
            next_step="Mend it in params.yaml: faces.size_px should be model.shrink times a multiple of 32, such as 64, 128 or 224.",
        ) from problem


def refuse_lone_pictures(name: str, side: int) -> None:
    """Raise SettingsError where the encoder called `name` cannot learn from one picture `side` px wide: batch norm needs more than one value a channel."""
    try:
        with torch.no_grad():
            _from_scratch(name, side).train()(torch.zeros(1, 3, side, side))
    except ValueError as problem:
        raise SettingsError(
            f"The backbone {name} cannot learn from one picture of {side} px at once.",
            why=f"pretrain.micro_batch, or what it leaves of a process's share of a batch, is 1; {str(problem).splitlines()[0][:200]}",
            next_step="Mend batch, micro_batch or processes of pretrain in params.yaml: at least two pictures must be seen at once.",
        ) from problem


def feature_shape(encoder: nn.Module, size_px: int) -> tuple[int, int]:
    """(channels F, side of the map) for pictures of size_px, found by running one."""
    was_training = encoder.training
    encoder.eval()
    with torch.no_grad():
        maps = encoder(torch.zeros(1, 3, size_px, size_px))
    encoder.train(was_training)
    return int(maps.shape[1]), int(maps.shape[-1])
