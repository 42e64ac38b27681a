# Everything runs in .venv, made from requirements.lock (exact pins with hashes).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# one more than two cores: simulated boards wait for their clock half of the time
WORKERS ?= 3

.PHONY: help demo test check bench lock clean
help:
	@echo "make demo   two virtual wearables enrol, send and are updated; attacks are refused"
	@echo "make test   all tests, device code on MicroPython"
	@echo "make check  format, lint, types, device code compiles, import directions"
	@echo "make bench  the table of measured figures"
	@echo "make lock   renew requirements.lock from pyproject.toml"
	@echo "make clean  remove what the other targets made"

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sealband needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: $(READY)
	$(BIN)/sealband demo

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/host/test_architecture.py

bench: $(READY)
	$(BIN)/python -m tests.bench

lock:
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --all-extras \
	  --no-emit-index-url --no-emit-find-links -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
