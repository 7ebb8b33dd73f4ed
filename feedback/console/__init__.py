"""The review console: pages for people, served by the service's own program under /console.

May import NiceGUI and, of `feedback`, the service and what it raises; never a store. Every page and every handler asks
through `Visitor`, which looks its session up anew each time: who was disabled or lost a role is refused at the next click.
NiceGUI takes seconds to import, so `serve` imports `mounting` in a thread, once the model answers.
"""

PATH = "/console"
