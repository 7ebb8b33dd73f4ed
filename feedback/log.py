"""The log of the service's processes: its own words, and of what libraries say the warnings."""

import logging


def start_log(who: str = "") -> None:
    """Write the log of this process to standard error. httpx would tell of each request with its whole address, and so the tokens in it."""
    logging.basicConfig(level=logging.INFO, format=f"%(levelname)s: {who}%(message)s")
    for library in ("httpx", "httpcore"):
        logging.getLogger(library).setLevel(logging.WARNING)
