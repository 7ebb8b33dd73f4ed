"""How large a picture may be. Imported before OpenCV, which reads the limit when it is first imported, and refuses a larger picture by its header."""

import os

MAX_PIXELS = 1 << 26  # 8192 x 8192; a larger picture is a mistake or an attack
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
