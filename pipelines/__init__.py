"""One module a stage of the cycle: files in, files out, a plain function plus a DVC entry. May import `model`, `media`, `workspace`."""
