"""Jobs for the pool's tests, in a module that costs a new process nothing to import."""

import os
import time


def square_or_die(number: int) -> int:
    if number < 0:
        os._exit(9)
    return number * number


def unchanged(number: int) -> int:
    return number


def process_id(number: int) -> int:
    time.sleep(0.05)  # two processes would share such jobs
    return os.getpid()
