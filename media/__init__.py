"""What happens to media, for training and serving alike: decode, find and align faces, cut clips, forge, degrade, store. May import `workspace`."""

import media.limits  # noqa: F401  before OpenCV
