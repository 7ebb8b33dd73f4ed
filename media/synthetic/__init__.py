"""The sample world: rendered people, cameras and two forgers, so that everything runs without anybody's real face."""

from media.synthetic.people import Person, draw_person
from media.synthetic.sample import GENERATORS, SampleReport, make_sample_media, render_take

__all__ = ["GENERATORS", "Person", "SampleReport", "draw_person", "make_sample_media", "render_take"]
