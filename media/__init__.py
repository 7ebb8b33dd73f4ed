"""What happens to media, for training and serving alike: decode, find and align faces, cut clips, forge, degrade, store. May import `workspace`."""

import os

MAX_PIXELS = 1 << 26  # 8192 x 8192; a larger picture is a mistake or an attack
# OpenCV reads this when it is first imported, and refuses a larger picture by its header; rooms that import OpenCV import this one before
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
