# Two commands do all set-up on a fresh machine with git, make and Python 3.11 or newer: `make demo` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo cluster-demo test lint types bench soak histories image-steps compose-steps format lock schemas clean

demo: $(READY)  ## make a small archive, index it, search it; offline
	$(BIN)/python -m demo

cluster-demo: $(READY)  ## the same on a cluster of processes, which loses a worker; offline
	$(BIN)/python -m demo.cluster

# Many tests kill a process at a moment of its work, or wait for one, and four at once on two cores can be late for the moment.
# What fails is therefore asked once more, and said to have been; a fault of ours fails twice.
test: $(READY) lint types  ## everything that CI runs
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder --reruns 1 --reruns-delay 2 -raR

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

bench: $(READY)  ## timings; never part of the tests
	$(BIN)/python -m benchmarks

soak: $(READY)  ## kill runs at random moments, N times, and compare with an undisturbed run
	$(BIN)/python -m tests.soak $(or $(N),100)

histories: $(READY)  ## try N random histories of runs, gc, forget, rebuild and deaths
	INDEXER_HISTORIES=$(or $(N),2000) $(BIN)/pytest tests/test_histories.py

image-steps: $(READY)  ## the steps of docker/Dockerfile as shell, in a clean folder; needs the network
	$(BIN)/python -m tests.image

compose-steps: $(READY)  ## the services of docker/compose.yaml in namespaces of their own; needs root
	$(BIN)/python -m tests.composed

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schemas: $(READY)  ## write the renderings in schemas/, docs/ and docker/ anew, after a change of the code they show
	$(BIN)/indexer schema job > schemas/job.schema.json
	$(BIN)/indexer schema keys > docs/job-file.md
	$(BIN)/indexer schema part > schemas/part.schema.txt
	$(BIN)/indexer schema catalog > schemas/catalog.sql
	env -i AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x PGPASSWORD=x $(BIN)/indexer schedule docker/kubernetes/archive.yaml \
		--as kubernetes --image registry.example.com/indexer:cuda-1 --output docker/kubernetes

lock: $(READY)  ## resolve the dependencies anew
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --upgrade --quiet \
		--custom-compile-command "make lock" --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --group image --constraint requirements.lock --universal --python-version 3.11 \
		--generate-hashes --upgrade --quiet --custom-compile-command "make lock" --output-file docker/requirements.lock

clean:
	rm -rf .venv demo-archive

# uv is one of the locked packages; pip only fetches the one that the lock names, and checks its hash.
$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.lock
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r .venv/uv.lock
	$(BIN)/uv pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --editable .
	touch $(READY)
