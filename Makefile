# Everything runs in .venv, made from requirements.lock. See README.md.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Ours alone; a machine's own settings would change what is tested.
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: install demo test slow lint docs lock advisories bench clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml setup.cfg
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: $(STAMP)
	$(BIN)/ktransfer demo

# Each worker takes some 4 GiB; most tests use one core. A file's tests share fixtures, so they stay together; in order of
# their number the files with few long tests would come last, and leave one core idle.
WORKERS ?= 2
IN_WORKERS := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
test: $(STAMP)
	$(BIN)/python -m pytest $(IN_WORKERS)

# What the default suite leaves out: see CONTRIBUTING.md.
slow: $(STAMP)
	$(BIN)/python -m pytest -m slow $(IN_WORKERS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, into build/site, without network. The first two lines write what is made from the code.
docs: $(STAMP)
	$(BIN)/python docs/tools/cli_reference.py
	$(BIN)/python docs/tools/architecture_svg.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# After a change of the dependencies in pyproject.toml. Names no registry: pip's own settings choose it.
# Without s3 and gs, whose packages hold others back that are in use everywhere.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv
	.venv-lock/bin/uv pip compile pyproject.toml --extra all --extra dev --extra docs --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --output-file requirements.lock
	rm -rf .venv-lock

# The known faults of what is locked, from the database that pip-audit asks; the tests read the file alone.
advisories: $(STAMP)
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet pip-audit
	-.venv-audit/bin/pip-audit -r requirements.lock --disable-pip --require-hashes --format json -o advisories.json
	rm -rf .venv-audit
	$(BIN)/python tests/advisories.py

# Leave the machine alone meanwhile. ONLY="epoch_cost memory" runs some of them.
bench: $(STAMP)
	$(BIN)/python benchmarks/run_all.py $(DATA) $(BACKBONES) $(if $(ONLY),--only $(ONLY))

clean:
	rm -rf $(VENV) build dist *.egg-info runs
