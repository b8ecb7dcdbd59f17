# Everyday commands; `make help` lists them. `make demo` and `make test` install everything they need first.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-alerts test-wheel test-kafka test-partitions chaos fuzz pictures bench-ingest bench-replay bench-transport bench-store bench-join bench-import bench-evictions bench-training bench-report bench-rollout bench-newcomers bench-scoring bench-answer bench-diversity bench-lists bench-monitoring bench-page bench-serving bench-topic bench-serve bench-digest bench-canary bench-towers bench-candidates bench-retrieval bench-ann bench-sizes bench-capacity capacity-constants lint types format lock clean

# make demo, make fuzz: how long it runs; make demo: where its figures go.
SECONDS ?= 60
JSON ?=
# make chaos: seed of the plan; QUICK=1 for a shorter run; WITHOUT=clock,disk-full leaves out what it names.
SEED ?= 1
QUICK ?=
WITHOUT ?=
# make chaos: SECURE=1 for TLS, SCRAM, ACLs and a Redis Cluster.
SECURE ?=
# More arguments for pytest, for example TESTS="tests/models -x". JOBS is the number of processes; 0 shows what a test
# prints (TESTS="tests/streams/test_dedup.py -s" JOBS=0).
TESTS ?=
JOBS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
# make bench-replay: a Globo click file or a folder of them, how many clicks, how many runs.
CLICKS ?=
LIMIT ?=
RUNS ?=
# make bench-candidates: 1 counts the slots of lists instead.
LISTS ?=
# make bench-training: how many examples.
ROWS ?=
# make bench-diversity, bench-towers: a folder with MovieLens 100K in RecBole's format; CLICKS and LIMIT as above.
MOVIES ?=

# make bench-retrieval, make bench-ann, make bench-answer: how many items; how many slots a list has.
ITEMS ?=
SLOTS ?=
# make bench-retrieval: 1 measures the catalogue of ten million items, too.
TEN_MILLION ?=
# make bench-ingest: how many events, what to measure (ONLY=user_stage,bytewax), BROKER=kafka or embedded,
# PROFILE=folder for flame graphs; CLICKS, RUNS and JSON as above.
EVENTS ?=
ONLY ?=
BROKER ?=
PROFILE ?=
# make bench-serve: a picture of the overload.
PLOT ?=
UV := uv==0.13.9

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Environment of the programs that bench-ingest compares us with; made only when one of them is measured.
PEERS := .venv-peers
COMMA := ,
WITH_PEERS = $(if $(ONLY),$(filter stock_faust quixstreams bytewax,$(subst $(COMMA), ,$(ONLY))),yes)

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## Run the whole loop on an embedded broker (SECONDS=60, JSON=path for the figures)
	@$(BIN)/headrace demo --seconds $(SECONDS) $(if $(JSON),--json "$(JSON)")

test: $(READY) ## Run the tests on the embedded broker and store (TESTS="..." to choose, JOBS=n processes)
	@$(PYTEST) $(TESTS)
	@echo
	@echo "That was everything that runs on the embedded broker and store. More:"
	@echo "  make test-slow    the demo and the ingest benchmark as a whole, small"
	@echo "  make test-alerts  all alerts, while a whole installation is well and while it breaks"
	@echo "  make test-kafka   the broker tests again, on a real Apache Kafka and a real Redis"
	@echo "                    (needs Java 17+, Maven and redis-server; Debian: openjdk-17-jdk-headless maven redis-server;"
	@echo "                    for callers in other languages also a Java compiler, Go 1.19+ and kcat: golang-go kcat)"

test-slow: $(READY) ## Run the demo and the ingest benchmark as a whole, small, on the embedded broker
	@$(BIN)/python -m pytest -m slow -n 0 tests/demo/test_demo_run.py tests/demo/accelerated/test_learning_off_run.py tests/demo/accelerated/test_alerts_hour.py tests/bench/test_bench_run.py tests/bench/test_bench_digest.py tests/bench/test_bench_monitoring.py $(TESTS)

test-alerts: $(READY) ## Read all alerts while a whole installation is well, and while it breaks, 7 minutes (needs promtool)
	@$(BIN)/python -m pytest -m slow -n 0 -s tests/monitor/test_alerts_whole.py $(TESTS)

test-wheel: $(READY) ## Install the package in fresh environments and test it there (needs the network)
	@$(BIN)/python -m pytest -m wheel -n 0 tests/contract/test_wheel.py $(TESTS)

test-kafka: $(READY) ## Run the broker tests on a real Kafka and Redis (JDK 17+, Maven, redis-server, Go 1.19+, kcat)
	@$(BIN)/python ops/kafka/run.py -- $(PYTEST) -m broker $(TESTS)

chaos: $(READY) ## Break everything while events are sent, then verify (SEED=1, JSON=path, QUICK=1, SECURE=1, WITHOUT=kinds)
	@$(BIN)/python tests/chaos/run.py --seed $(SEED) $(if $(filter-out 0,$(QUICK)),--quick) $(if $(JSON),--json "$(JSON)") \
	    $(if $(filter-out 0,$(SECURE)),--secure) $(if $(WITHOUT),--without "$(WITHOUT)")

test-partitions: $(READY) ## 64 partitions, 8 workers of each role on this machine: events, lists, then verify (8 GB of memory)
	@$(BIN)/python tests/chaos/run.py --wide --seed $(SEED) $(if $(JSON),--json "$(JSON)")

# Atheris has wheels for some versions of Python on Linux only; without it, inputs are made at random.
fuzz: $(READY) ## Fuzz every decoder, led by coverage (SECONDS=60)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || \
	    $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --only-binary :all: 'atheris>=3,<4' || true
	@$(BIN)/python tests/fuzz/run.py --seconds $(SECONDS)

pictures: $(READY) ## Take the pictures of the dashboard in docs/, from a demo (needs chromium)
	@$(BIN)/python tests/monitor/pictures.py

bench-ingest: $(READY) $(if $(WITH_PEERS),$(PEERS)/.ready) ## Cost of an event, also of the Python peers; recovery, memory, freshness (EVENTS=n, RUNS=n, ONLY=names, JSON=path)
	@$(BIN)/python bench/bench_ingest.py $(if $(EVENTS),--events $(EVENTS)) $(if $(RUNS),--runs $(RUNS)) \
	    $(if $(ONLY),--only $(ONLY)) $(if $(BROKER),--broker $(BROKER)) $(if $(CLICKS),--clicks "$(CLICKS)") \
	    $(if $(PROFILE),--profile "$(PROFILE)") $(if $(JSON),--json "$(JSON)")

bench-replay: $(READY) ## Events per CPU-second of a full-speed replay (CLICKS=Globo file or folder; LIMIT=n, RUNS=n)
	@[ -n "$(CLICKS)" ] || { echo "headrace: make bench-replay CLICKS=path (a Globo click file or a folder of them)" >&2; exit 2; }
	@[ -e "$(CLICKS)" ] || { echo "headrace: there is no $(CLICKS)" >&2; exit 2; }
	@$(BIN)/python bench/bench_replay.py "$(CLICKS)" $(if $(LIMIT),--clicks $(LIMIT)) $(if $(RUNS),--runs $(RUNS))

bench-transport: $(READY) ## Events per second of stock Faust and of the batch transport
	@$(BIN)/python bench/bench_transport.py

bench-store: $(READY) ## Cost of writing rows to Redis, by several methods
	@$(BIN)/python bench/bench_store.py

bench-join: $(READY) ## Memory and CPU of the outcome join, for a list of 20 slots
	@$(BIN)/python bench/bench_join.py

bench-import: $(READY) ## Events per CPU-second of an import, and of the workers that count it (EVENTS=n, RUNS=n, BROKER=kafka, JSON=path)
	@$(BIN)/python bench/bench_import.py $(if $(EVENTS),--events $(EVENTS)) $(if $(RUNS),--runs $(RUNS)) \
	    $(if $(BROKER),--broker $(BROKER)) $(if $(JSON),--json "$(JSON)")

bench-evictions: $(READY) ## Cost of an event while half of the users of every batch are evicted (EVENTS=n, RUNS=n)
	@$(BIN)/python bench/bench_evictions.py $(if $(EVENTS),--events $(EVENTS)) $(if $(RUNS),--runs $(RUNS))

bench-training: $(READY) ## Memory and time of a training on a large Parquet log (ROWS=2000000)
	@$(BIN)/python bench/bench_training.py $(if $(ROWS),--rows $(ROWS))

bench-report: $(READY) ## Figures of a training report beside the truth of a simulated audience (LISTS=4000)
	@$(BIN)/python bench/bench_report.py $(if $(LISTS),--lists $(LISTS))

bench-scoring: $(READY) ## CPU of scoring the candidates of a request by three objectives, beside LightGBM (ROWS=500)
	@$(BIN)/python bench/bench_scoring.py $(if $(ROWS),--rows $(ROWS))

bench-answer: $(READY) ## CPU of an answer alone, by stage, for 1, 4 and 16 requests that wait together (ITEMS=100000, SLOTS=20, JSON=path)
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python bench/bench_answer.py $(if $(ITEMS),--items $(ITEMS)) \
	    $(if $(SLOTS),--slots $(SLOTS)) $(if $(JSON),--json "$(JSON)")

bench-newcomers: $(READY) ## Lists of new users and clicks of new items, with and without bandits, on simulated users
	@$(BIN)/python bench/bench_newcomers.py

bench-rollout: $(READY) ## What a rollout does with good and bad candidates, on simulated users (RUNS=200)
	@$(BIN)/python bench/bench_rollout.py $(if $(RUNS),--runs $(RUNS))

bench-diversity: $(READY) ## Quality of lists against their variety, MMR and DPP (MOVIES=folder with MovieLens 100K)
	@[ -d "$(MOVIES)" ] || { echo "headrace: make bench-diversity MOVIES=folder with ml-100k.inter.gz and ml-100k.item.gz" >&2; exit 2; }
	@$(BIN)/python bench/bench_diversity.py "$(MOVIES)"

bench-serving: $(READY) ## A serving worker under load: stalls, candidate stage, publication to retrieval (ITEMS=n, SECONDS=n, JSON=path)
	@$(BIN)/python bench/bench_serving.py $(if $(ITEMS),--items $(ITEMS)) $(if $(SECONDS),--seconds $(SECONDS)) \
	    $(if $(JSON),--json "$(JSON)")

bench-topic: $(READY) ## Items a second that a serving worker and the role index read from a broker, from nothing (ITEMS=1000000, BROKER=kafka|embedded)
	@$(BIN)/python bench/bench_topic.py $(if $(ITEMS),--items $(ITEMS)) $(if $(BROKER),--broker $(BROKER))

bench-serve: $(READY) ## Answering over a broker: latency, CPU of an answer, saturation, overload (ITEMS=n, BROKER=kafka|embedded, JSON=path, PLOT=picture)
	@$(BIN)/python bench/bench_serve.py $(if $(ITEMS),--items $(ITEMS)) $(if $(BROKER),--broker $(BROKER)) \
	    $(if $(JSON),--json "$(JSON)") $(if $(PLOT),--plot "$(PLOT)")

bench-digest: $(READY) ## Interactive requests without and with headrace digest, in turns (ITEMS=n, ROUNDS=n, JSON=path)
	@$(BIN)/python bench/bench_digest.py $(if $(ITEMS),--items $(ITEMS)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	    $(if $(JSON),--json "$(JSON)")

bench-canary: $(READY) ## From an event, a publication, a withdrawal to the reply that shows it, on an idle stack (BROKER=kafka|embedded, SECONDS=n, JSON=path)
	@$(BIN)/python bench/bench_canary.py $(if $(BROKER),--broker $(BROKER)) --seconds $(SECONDS) $(if $(JSON),--json "$(JSON)")

bench-monitoring: $(READY) ## What metrics, monitor and canary cost ingest and serving, in turns with and without (BROKER=kafka|embedded, ROUNDS=n, JSON=path)
	@$(BIN)/python bench/bench_monitoring.py $(if $(BROKER),--broker $(BROKER)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	    $(if $(JSON),--json "$(JSON)")

bench-page: $(READY) ## What an open dashboard costs a browser, with 30 days of points (needs chromium; TIME=60)
	@$(BIN)/python bench/bench_page.py $(if $(TIME),--seconds $(TIME))

bench-lists: $(READY) ## Cost of the popular and newest lists, memory of item rows (ROWS="100000 1000000")
	@$(BIN)/python bench/bench_lists.py $(if $(ROWS),--rows $(ROWS))

bench-candidates: $(READY) ## How often the next click is among the candidates, by source (CLICKS=Globo file, LIMIT=n, LISTS=1 for their lists)
	@[ -f "$(CLICKS)" ] || { echo "headrace: make bench-candidates CLICKS=Globo's click file" >&2; exit 2; }
	@$(BIN)/python bench/bench_candidates.py "$(CLICKS)" $(if $(LIMIT),--clicks $(LIMIT)) $(if $(LISTS),--lists)

bench-towers: $(READY) ## Recall of the two towers, cost of a click learnt and an item embedded (CLICKS=Globo file, MOVIES=folder, LIMIT=n)
	@$(BIN)/python bench/bench_towers.py $(if $(CLICKS),--globo "$(CLICKS)") $(if $(MOVIES),--movies "$(MOVIES)") \
	    $(if $(LIMIT),--clicks $(LIMIT))

bench-retrieval: $(READY) ## Catalogue in files, vector index, candidates of a worker: recall, times, memory (ITEMS=1000000, CLICKS=Globo file, LIMIT=n, TEN_MILLION=1)
	@$(BIN)/python bench/bench_retrieval.py $(if $(ITEMS),--items $(ITEMS)) $(if $(CLICKS),--clicks "$(CLICKS)") \
	    $(if $(LIMIT),--limit $(LIMIT)) $(if $(filter-out 0,$(TEN_MILLION)),--ten-million)

bench-ann: $(READY) ## Our vector index and the libraries that are installed, on the same vectors (ITEMS=200000)
	@$(BIN)/python bench/bench_ann.py $(if $(ITEMS),--items $(ITEMS))

bench-sizes: $(READY) ## What rows, records and work take on a real Kafka and Redis: constants of headrace capacity (EVENTS=n, ITEMS=n, JSON=path)
	@$(BIN)/python bench/bench_sizes.py $(if $(EVENTS),--events $(EVENTS)) $(if $(ITEMS),--items $(ITEMS)) \
	    $(if $(JSON),--json "$(JSON)")

bench-capacity: $(READY) ## Predictions of headrace capacity beside measurements at three sizes, on a real Kafka and Redis (JSON=path)
	@$(BIN)/python bench/bench_capacity.py $(if $(JSON),--json "$(JSON)")

capacity-constants: $(READY) ## Measure the constants of headrace capacity, and write them to the package (ONLY=sizes,join)
	@$(BIN)/python bench/capacity_constants.py $(if $(ONLY),--only $(ONLY))

lint: $(READY) ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(READY) ## Correct style and formatting
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(READY) ## Check the types
	@$(BIN)/mypy
	@$(BIN)/mypy ops/kafka/run.py

lock: $(READY) ## Write requirements.lock again (LOCK=--upgrade for newer versions)
	@$(BIN)/pip install -q "$(UV)"
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --extra dev $(LOCK) \
	    --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 $(LOCK) --custom-compile-command "make lock" \
	    --output-file bench/peers/requirements.txt bench/peers/requirements.in

clean: ## Remove the virtual environment and the caches
	@rm -rf $(VENV) $(PEERS) .mypy_cache .ruff_cache .hypothesis build src/*.egg-info src/headrace/_cython.*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@find streams models serving \( -name '*.so' -o -name '*.c' \) -delete

# --- set-up ---------------------------------------------------------------------------------------------------------

# PYTHON=... chooses the interpreter; otherwise the first of these that runs and is new enough.
PYTHON ?=
CANDIDATES = $(or $(strip $(PYTHON)),python3 python3.13 python3.12 python3.11 python3.14)
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
HAS_HEADERS := import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))

$(READY): requirements.lock pyproject.toml $(shell find streams models serving -name '*.pyx' -o -name '*.pxd')
	@set -e; \
	fail() { echo "headrace: $$*" >&2; exit 1; }; \
	if [ ! -x $(BIN)/python ]; then \
	    for p in $(CANDIDATES); do \
	        if "$$p" -c '$(NEW_ENOUGH)' 2>/dev/null; then python="$$p"; break; fi; \
	    done; \
	    [ -n "$$python" ] || fail "needs Python 3.11 or newer; tried: $(CANDIDATES) (choose one with PYTHON=/path/to/python)"; \
	    "$$python" -m venv $(VENV) || fail "$$python cannot make a virtual environment (Debian: apt-get install python3-venv)"; \
	fi; \
	if ! $(BIN)/python -c 'import hnswlib' 2>/dev/null; then \
	    command -v "$${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null \
	        || fail "needs a C++ compiler, hnswlib is built from source (Debian: apt-get install g++)"; \
	    $(BIN)/python -c '$(HAS_HEADERS)' \
	        || fail "needs Python's C headers, hnswlib is built from source (Debian: apt-get install python3-dev)"; \
	fi; \
	echo "installing into $(VENV) (the first time takes a few minutes: hnswlib is compiled)"; \
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.lock; \
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .; \
	$(BIN)/python -c 'from headrace.console.extras import require; require("worker")' \
	    || fail "$(VENV) is not complete: the last line above says what is missing"
	@touch $@

# Bytewax has wheels up to Python 3.12. With a newer Python it is not installed, and the benchmark says so.
$(PEERS)/.ready: bench/peers/requirements.txt
	@set -e; \
	for p in $(PYTHON) python3.11 python3.12 python3; do \
	    if "$$p" -c '$(NEW_ENOUGH)' 2>/dev/null; then python="$$p"; break; fi; \
	done; \
	echo "installing the peers into $(PEERS)" >&2; \
	"$${python:-python3}" -m venv --clear $(PEERS); \
	pip="$(PEERS)/bin/python -m pip install -q --disable-pip-version-check"; \
	$$pip -r $< || { \
	    echo "headrace: not all of them install on $$("$$python" -V); trying without Bytewax" >&2; \
	    grep -v '^bytewax' $< >$(PEERS)/without-bytewax.txt; \
	    $$pip -r $(PEERS)/without-bytewax.txt; \
	}
	@touch $@
