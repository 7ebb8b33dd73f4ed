"""Writes down the settings that a stage reads, in its own process and those it starts: stage and place in params.yaml, a line each to STAGE_READS_LOG."""

import importlib.abc
import importlib.util
import os
import sys

LOG, STAGE = "STAGE_READS_LOG", "STAGE_READS_OF"
RULES = ("/workspace/settings/", "/workspace/blocks.py")  # which look at every value there is


def begin():
    """Watch this process, if it is a stage's or was started by one."""
    stage = next((word.removeprefix("pipelines.") for word in sys.orig_argv if word.startswith("pipelines.")), os.environ.get(STAGE))
    if stage and LOG in os.environ:
        os.environ[STAGE] = stage
        sys.meta_path.insert(0, _Finder(stage))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds workspace.blocks as ever, and lets its Block be watched once it is there."""

    def __init__(self, stage):
        self.stage = stage

    def find_spec(self, name, path, target=None):
        if name != "workspace.blocks":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            _watch(module.Block, self.stage)

        spec.loader.exec_module = exec_module
        return spec


def _watch(block, stage):
    """Write each value that is read through the settings as a whole; other blocks of the same kind, a model's own say, are none of dvc.yaml's.

    A block that is dumped or handed to another process counts as read, all of it.
    """
    places, seen, plain = {}, set(), block.__getattribute__

    def write(place):
        if place not in seen:
            seen.add(place)
            with open(os.environ[LOG], "a", encoding="utf-8") as handle:
                handle.write(f"{stage} {place}\n")

    def place_of(one):
        kept, place = places.get(id(one), (None, None))
        return place if kept is one else None

    def read(self, name):
        value = plain(self, name)
        cls = type(self)
        before = "" if cls.__name__ == "Settings" else place_of(self)
        asking = sys._getframe(1).f_code.co_filename
        if name not in cls.model_fields or before is None or any(rule in asking for rule in RULES):
            return value
        place = f"{before}.{cls.model_fields[name].alias or name}".lstrip(".")
        if isinstance(value, block):
            places[id(value)] = value, place  # kept, so that no other block comes to its number
        else:
            write(place)
        return value

    def watched(method):
        def whole(self, *rest, **named):
            if place := place_of(self):
                write(place)
            return method(self, *rest, **named)

        return whole

    block.__getattribute__ = read
    block.model_dump, block.__getstate__ = watched(block.model_dump), watched(block.__getstate__)
