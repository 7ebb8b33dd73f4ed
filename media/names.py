"""What media files are called, and how photos begin: one list for everybody who has to tell media from notes without opening them."""

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2")
MOVIE_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".avi", ".mkv", ".webm", ".flv", ".ogv", ".wmv", ".asf", ".mpg", ".mpeg", ".mts", ".m2ts", ".mxf", ".gif",
)  # fmt: skip
MEDIA_SUFFIXES = PHOTO_SUFFIXES + MOVIE_SUFFIXES
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter of BigTIFF
PHOTO_MARKS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", *TIFF_MARKS, b"\0\0\0\x0cjP  ")
AVIF_BRANDS = (b"avif", b"avis")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")  # not hevc: a burst of photos, which is read as a video


def begins_as_photo(head: bytes) -> bool:
    """Whether a file's first 12 bytes are those of a photo."""
    if head[4:8] == b"ftyp":
        return head[8:12] in AVIF_BRANDS + HEIF_BRANDS
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    return head.startswith(PHOTO_MARKS)
