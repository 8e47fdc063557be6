# Two commands on a fresh machine: `make demo` and `make test`. All others are for those who work on mga.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test check format install clean bench-client bench-model bench-pairs

help:
	@echo "make demo         install, fetch the embedded model, expand three documents, show one"
	@echo "make test         install and run all tests"
	@echo "make check        lint, formatting, strict types"
	@echo "make bench-client CPU per request, against the barest client"
	@echo "make bench-model  speed and usable texts of the embedded model, by weight format"
	@echo "make bench-pairs  different pairs per document, by recipe (INPUT=file, LIMIT=40)"

install: .venv/.installed

.venv/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[llamacpp,dev]'
	touch $@

demo: install
	$(BIN)/mga expand examples/sample.jsonl --limit 3 --out demo-run
	$(BIN)/mga show demo-run --n 1
	@echo "The texts lie in demo-run/kept (Parquet), what was dropped and why in demo-run/dropped."
	@echo "Next: $(BIN)/mga show demo-run --dropped · $(BIN)/mga status demo-run · $(BIN)/mga expand --help"

test: install
	$(BIN)/pytest

check: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

INPUT ?= examples/sample.jsonl
LIMIT ?= 40
bench-client: install
	$(BIN)/python benchmarks/client.py

bench-model: install
	$(BIN)/python benchmarks/embedded_model.py $(INPUT)

bench-pairs: install
	$(BIN)/python benchmarks/pair_recipe.py $(INPUT) --limit $(LIMIT)

clean:
	rm -rf .venv demo-run .mypy_cache .pytest_cache .ruff_cache .hypothesis
