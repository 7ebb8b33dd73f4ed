"""A phase-1 network as a judge of clips. Loaded only by stages that use torch anyway."""

from torch import Tensor, nn

from model.network import ResNeXtLSTM


class FrameView(nn.Module):
    """The mean of a network's frame logits: after phase 1 its LSTM has learned nothing yet, and must not blur the attack."""

    def __init__(self, network: ResNeXtLSTM) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor, lengths: Tensor | None = None) -> Tensor:
        """clips [B, T, 3, H, W] in 0..1 -> logits [B]. Frames beyond a clip's length repeat its last one and count like it."""
        return self.network.frame_logits(clips.flatten(0, 1)).unflatten(0, clips.shape[:2]).mean(1)
