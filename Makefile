# The two commands: `make demo` and `make test`, and `make demo-sawyer`. The README has the same without make.
# Each installs what it needs into one venv: a demo its simulator, the tests everything.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: venv demo demo-sawyer test lint docs clean

venv: $(VENV)/.dev

$(VENV)/.new:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

# $(VENV)/.data, .sim, .dev and .docs: with that extra of pyproject.toml
$(VENV)/.%: pyproject.toml | $(VENV)/.new
	$(BIN)/python -m pip install --quiet -e '.[$*]'
	touch $@

demo: $(VENV)/.data
	$(BIN)/python train.py --config configs/robot_push.yaml
	$(BIN)/python eval.py --checkpoint runs/robot_push

demo-sawyer: $(VENV)/.sim
	$(BIN)/python -m data.sawyer_push --out datasets/sawyer_push
	$(BIN)/python train.py --config configs/sawyer_push_demo.yaml
	$(BIN)/python eval.py --checkpoint runs/sawyer_push_demo

test: venv
	$(BIN)/python -m pytest

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:
	rm -rf $(VENV) site .pytest_cache .ruff_cache .mypy_cache
