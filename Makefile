PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

DATA := $(or $(DISTILLGRAD_DATA),../shared/data)

# Threads that spin long while cores are shared run many times slower; those that do not spin at all, on free cores,
# take half as long again.
export GOMP_SPINCOUNT ?= 5000

.PHONY: help browser setup peers demo test check lint types doctest docs docs-serve stability-table statistics-table sweep bench bench-quick clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.demo  ## explain a photograph with the bundled classifier; needs no network once installed
	$(BIN)/distillgrad demo

test: setup  ## all tests, side by side on all cores; neighbours in a file share what was made for them
	$(BIN)/python -m pytest --numprocesses logical --dist worksteal

check: peers browser lint types test doctest docs bench-quick  ## everything that CI checks

setup: $(VENV)/.setup  ## .venv with the tested set of packages

peers: $(VENV)/.peers  ## attribench, too, to agree with and to be measured beside

browser: $(VENV)/.browser  ## chromium (where it may be installed) and what checks pages; tests of pages skip without

$(VENV)/.browser:
	mkdir -p $(VENV)
	for each in chromium npm; do command -v $$each >/dev/null || [ "$$(id -u)" != 0 ] || \
		{ apt-get update -qq && apt-get install -qq -y --no-install-recommends $$each; } || true; done
	! command -v npm >/dev/null || npm install --silent --no-audit --no-fund --prefix $(VENV)/npm axe-core@4.10.3 html-validate@9.5.3 || true
	! command -v chromium >/dev/null || touch $@

lint: setup  ## format, style, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: setup  ## strict types
	$(BIN)/mypy

doctest: setup
	$(BIN)/python -m pytest --doctest-modules src

docs: setup  ## the documentation, strictly built into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: setup  ## the documentation on 127.0.0.1:8000, rebuilt when it changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --strict --dev-addr 127.0.0.1:8000

bench: peers  ## speed and memory, side by side in one run
	$(BIN)/python benchmarks/run.py --page docs/results/speed.md

bench-quick: peers
	$(BIN)/python benchmarks/run.py --quick

statistics-table: setup  ## how often intervals and tests hold: docs/results/statistics.md, some three minutes
	$(BIN)/python benchmarks/statistics_table.py

# Few passes and images, for it takes long; a run that was stopped goes on.
stability-table: setup  ## how far every method agrees with itself: docs/results/stability.md
	PYTHONPATH=benchmarks $(BIN)/distillgrad stability \
		$(DATA)/cifar10/test.parquet $(DATA)/imagenet/samples $(DATA)/imagenet/samples $(DATA)/imagenet/samples \
		--out docs/results \
		--models "cifar10-cnn,random_vit:vit_tiny,torchvision:squeezenet1_1@$(DATA)/imagenet/squeezenet1_1.safetensors,torchvision:resnet18@$(DATA)/imagenet/resnet18.safetensors" \
		--limit 12 --limit 2 --limit 3 --limit 2 \
		--methods "dga,stable_dga,uniform_fullgrad,fullgrad,gradient_x_input,saliency,guided_backprop,smoothgrad(n_samples=10),vargrad(n_samples=10),integrated_gradients(n_steps=10),guided_ig(n_steps=10),idgi(n_steps=10),samp(n_steps=5),spectral_ig(n_steps=10),agi(max_steps=3,n_classes=3),gradcam,deep_lift,lrp,rise(n_masks=30),occlusion(window=28,stride=28),lime(n_samples=30),xrai(n_steps=5),random"

# An hour or two on two cores; a run that was stopped goes on. After a change of the code delete
# benchmarks/results/architectures.jsonl.
sweep: setup  ## every method on every family of timm, torchvision, transformers: docs/results/architectures.md
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/architectures.py --jobs "$$(nproc)" --page

clean:  ## remove the environment and what was made
	rm -rf $(VENV) site demo explanations benchmarks/results .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	$(INSTALL) --editable ".[regions]"
	touch $@

$(VENV)/.setup: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the tested set into $(VENV) ..."
	$(INSTALL) --editable ".[dev]"
	touch $@ $(VENV)/.demo

# attribench asks for torch < 2 and works with ours; what it imports comes with it.
$(VENV)/.peers: $(VENV)/.setup
	$(INSTALL) h5py statsmodels
	$(INSTALL) --no-deps attribench
	touch $@
