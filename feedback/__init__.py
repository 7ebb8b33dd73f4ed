"""Detect, review and hand over. May import `model` (inference, explanation), `media`, `workspace`; never `pipelines` or `flows`."""
