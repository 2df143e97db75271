# modelward. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

UV := .venv/bin/uv
PY := .venv/bin/python
RUNS := 20000
MINUTES := 10
REQUESTS := 1000000
KUBERNETES := 1.30
FUZZ := admission_review aggregates baseline free_text encrypted encrypted_pipe statements http_reader tensors token configuration grpc_messages
EXTRAS := controller lineage admission sidecar otlp grpc jobs he
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --custom-compile-command "make lock"

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

##@ The two commands
demo: setup ## A real kind cluster: an unsafe model refused, a safe one protected, served and attacked
	$(PY) -m demo

demo-he: setup ## A model that scores what only the client can read; memory and logs searched for it; no cluster
	$(PY) -m demo.encrypted

test: setup ## Everything: lint, types, contracts, unit, conformance, chart, integration, the kind cluster
	$(PY) -m tests.stages

##@ Parts of the tests
test-lint: setup ## ruff, mypy, import-linter
	$(PY) -m tests.stages lint format types calls contracts

test-unit: setup ## Pure and in-process tests, in about a minute
	$(PY) -m tests.stages unit

test-sidecar: setup ## The sidecar over real sockets, in real time: troubles, time-outs, load
	$(PY) -m tests.stages sidecar

test-browser: setup ## The audit page in Debian's chromium, which is installed where it is missing
	$(PY) -m tests.stages browser

test-conformance: setup ## Public corpora, where they are to be had
	$(PY) -m tests.stages conformance

conformance-oip: setup build/conformance/.ready build/kserve/.ready ## The inference protocol, REST and gRPC, against real model servers behind the sidecar; minutes the first time
	$(PY) -m tests.conformance.oip
	$(PY) -m tests.conformance.oip_grpc

conformance-anonymity: setup build/anonymity/.ready ## k, l and t of the Adult census beside pycanon's; a minute or two
	$(PY) -m tests.conformance.anonymity --pycanon build/anonymity/bin/python

conformance-fairness: setup build/fairness/.ready ## How unequal the Adult census is, by our counts and by Fairlearn's; seconds; writes docs/benchmarks/fairness.md
	$(PY) -m tests.conformance.fairness --fairlearn build/fairness/bin/python --out docs/benchmarks/fairness.md

conformance-pii: setup ## The recognisers on Presidio's labelled sentences: recall, precision, time, and every miss
	$(PY) -m tests.bench.recognisers --misses

conformance-signing: setup build/signing/.ready ## Signed statements of OpenSSF model-signing read by modelward, and the other way round; seconds
	$(PY) -m tests.conformance.signing --model-signing build/signing/bin/python

conformance-lineage: setup build/lineage-peers/.ready ## Lineage events before Apache Kafka's broker and OpenLineage's Java client, and before MARQUEZ=http://...; minutes
	$(PY) -m tests.conformance.lineage --jars build/lineage-peers/jars $(if $(MARQUEZ),--marquez $(MARQUEZ))

test-integration: setup ## A real etcd and kube-apiserver (built on first use)
	$(PY) -m tests.stages integration

test-oldest: setup ## The integration tests against KUBERNETES=1.30, the oldest supported, or another up to 1.36 (built on first use)
	tools=$$($(PY) -m tests.cluster tools --kubernetes $(KUBERNETES) | tail -n 1); \
		MODELWARD_TEST_BIN=$$tools $(PY) -m pytest -q tests/integration -n 2 --dist loadfile

test-chart: setup ## The chart, rendered by Helm (built on first use)
	$(PY) -m tests.stages chart

fuzz: .venv/.fuzz ## RUNS=20000 hostile inputs for each FUZZ target, guided by coverage where atheris is to be had
	for target in $(FUZZ); do $(PY) -m tests.fuzz.$$target --runs $(RUNS); done

test-e2e: setup ## The kind cluster
	$(PY) -m tests.stages e2e

##@ Benchmarks
bench-admission: setup ## What the webhook and the backstop cost, on a real API server; writes docs/benchmarks/admission.md
	$(PY) -m tests.bench.admission

bench-sidecar: .venv/.bench ## The sidecar beside Envoy, nginx and HAProxy: CPU a request, latency, memory
	$(PY) -m tests.bench.sidecar --out docs/benchmarks/sidecar.md

bench-backdoor: setup build/attacks/.ready ## Backdoored classifiers of digits; what is found of inputs with the trigger; writes docs/benchmarks/backdoor.md
	PYTHONPATH=operator build/attacks/bin/python -m tests.bench.backdoor --out docs/benchmarks/backdoor.md

bench-evasion: setup build/attacks/.ready ## ART's black-box attacks against a model alone and behind the detectors; writes docs/benchmarks/evasion.md
	PYTHONPATH=operator build/attacks/bin/python -m tests.bench.evasion --out docs/benchmarks/evasion.md

bench-report: setup ## The audit page of 1,000 models: made, and opened by chromium; writes docs/benchmarks/report.md
	$(PY) -m tests.bench.audit_page --out docs/benchmarks/report.md

bench-attacks: bench-backdoor bench-evasion bench-extraction ## All three

bench-extraction: setup build/attacks/.ready ## Copying a classifier through the sidecar, and 1,000 honest sessions; writes docs/benchmarks/extraction.md
	PYTHONPATH=operator build/attacks/bin/python -m tests.bench.extraction --out docs/benchmarks/extraction.md

bench-grpc: .venv/.bench ## gRPC through the sidecar, beside Envoy: CPU a call, latency, memory
	$(PY) -m tests.bench.grpc_calls --out docs/benchmarks/grpc.md

bench-audit: setup ## Encrypted counters: what counting, encrypting, adding and opening take; writes docs/benchmarks/audit.md
	$(PY) -m tests.bench.audit --out docs/benchmarks/audit.md

bench-he: setup build/he-peers/.ready ## The homomorphic path beside raw Pyfhel and TenSEAL; writes docs/benchmarks/he.md
	$(PY) -m tests.bench.he --tenseal build/he-peers/bin/python --out docs/benchmarks/he.md

bench-explain: setup build/explain-peers/.ready ## Explanations beside the package shap, and inference while a sidecar explains; writes docs/benchmarks/explain.md
	$(PY) -m tests.bench.explain --peers build/explain-peers/bin/python --out docs/benchmarks/explain.md

bench-detect: setup build/bench-detect/.ready ## Baselines beside PyOD's detectors on ADBench's sets, five seeds: an hour or two; goes on where it was broken off
	nice -n 19 $(PY) -m tests.bench.detect --peers build/bench-detect/bin/python --out docs/benchmarks/detect.md

soak: setup ## REQUESTS=1000000 through the sidecar with everything on: none fails, memory does not grow; half an hour at most
	$(PY) -m tests.bench.soak --requests $(REQUESTS)

soak-sink: setup ## A dead collector and a dead log reader, 1,000 requests/s for MINUTES=10: none fails, memory stays, sums fit
	$(PY) -m tests.bench.dead_sink --minutes $(MINUTES)

##@ The cluster
cluster: ## A kind cluster named modelward; from an empty machine in about 25 minutes, then in seconds
	python3 -m tests.cluster up

cluster-down: ## Remove it
	python3 -m tests.cluster down

images: cluster ## The images of modelward and of the example's model server
	python3 -m tests.cluster.build_images

##@ Development
setup: .venv/.ready ## .venv with every extra and the development tools, from the hashed locks

.venv/bin/uv:
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check uv==0.13.9

.venv/.ready: .venv/bin/uv pyproject.toml requirements/dev.txt
	@command -v g++ >/dev/null || { echo "Pyfhel is built from source and needs a C++ compiler (Debian: apt-get install g++)"; exit 2; }
	@echo "Installing the locked dependencies; Pyfhel is compiled the first time on this machine, about 3 minutes ..."
	wheel=$$($(PY) requirements/pyfhel_wheel.py); $(UV) pip install --quiet --python $(PY) --no-deps "$$wheel"
	$(UV) pip install --quiet --python $(PY) --require-hashes -r requirements/dev.txt
	$(UV) pip install --quiet --python $(PY) --no-deps --editable .
	@touch $@

.venv/.bench: .venv/.ready requirements/bench.txt
	$(UV) pip install --quiet --python $(PY) --require-hashes -r requirements/bench.txt
	@touch $@

build/%/.ready: .venv/bin/uv requirements/%.txt # an environment of its own
	$(UV) venv --quiet --allow-existing --python $(PY) build/$*
	$(UV) pip install --quiet --python build/$*/bin/python --require-hashes -r requirements/$*.txt
	@touch $@

build/lineage-peers/.ready: tests/conformance/java/pom.xml tests/conformance/java/jars.sha256
	@command -v mvn >/dev/null && command -v javac >/dev/null || { echo "Kafka's broker needs Maven and a JDK of 17 or later (Debian: apt-get install maven)"; exit 2; }
	rm -rf build/lineage-peers/jars && mkdir -p build/lineage-peers/jars
	mvn --quiet --batch-mode --file tests/conformance/java/pom.xml dependency:copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory=$(CURDIR)/build/lineage-peers/jars
	cd build/lineage-peers/jars && sha256sum --quiet --strict --check $(CURDIR)/tests/conformance/java/jars.sha256
	@touch $@

build/bench-detect/.ready: .venv/bin/uv requirements/bench-detect.txt
	$(UV) venv --quiet --allow-existing --python $(PY) build/bench-detect
	$(UV) pip install --quiet --python build/bench-detect/bin/python --require-hashes -r requirements/bench-detect.txt
	@touch $@

.venv/.fuzz: .venv/.ready requirements/fuzz.txt
	$(UV) pip install --quiet --python $(PY) --require-hashes -r requirements/fuzz.txt
	@touch $@

format: setup ## Format and mend what can be mended
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

generate: setup ## crds/, the chart's copy of them, its ValidatingAdmissionPolicies, and the pages of docs/reference
	.venv/bin/modelward crds --out crds
	.venv/bin/modelward crds --out charts/modelward/crds
	mkdir -p charts/modelward/templates/generated
	{ echo '# Generated by `make generate`; never edited.'; .venv/bin/modelward backstop; } \
		> charts/modelward/templates/generated/backstop.yaml
	mkdir -p docs/reference
	.venv/bin/modelward rules -o markdown > docs/reference/rules.md
	.venv/bin/modelward crds -o markdown > docs/reference/api.md
	$(PY) -m modelward.cli.markdown > docs/reference/cli.md

lock: export CMAKE_TOOLCHAIN_FILE := $(CURDIR)/requirements/seal.cmake
lock: .venv/bin/uv ## requirements/*.txt from pyproject.toml: versions and hashes, no addresses
	for extra in $(filter-out controller lineage sidecar otlp grpc,$(EXTRAS)); do $(COMPILE) pyproject.toml --extra $$extra -o requirements/$$extra.txt; done
	$(COMPILE) pyproject.toml --extra controller --extra lineage -o requirements/controller.txt
	$(COMPILE) pyproject.toml --extra sidecar --extra otlp --extra grpc -o requirements/sidecar.txt
	$(COMPILE) pyproject.toml $(addprefix --extra ,$(EXTRAS)) --group dev -o requirements/dev.txt
	$(COMPILE) --group fuzz -o requirements/fuzz.txt
	$(COMPILE) --group bench -o requirements/bench.txt
	$(COMPILE) --group he-peers -o requirements/he-peers.txt
	$(COMPILE) --group explain-peers -o requirements/explain-peers.txt
	$(COMPILE) --group bench-detect -o requirements/bench-detect.txt
	$(COMPILE) --group conformance -o requirements/conformance.txt
	$(COMPILE) pyproject.toml --extra sidecar --extra jobs --group attacks -o requirements/attacks.txt
	$(COMPILE) --group anonymity -o requirements/anonymity.txt
	$(COMPILE) --group fairness -o requirements/fairness.txt
	$(COMPILE) --group kserve -o requirements/kserve.txt
	$(COMPILE) --group signing -o requirements/signing.txt

.PHONY: help demo demo-he test test-lint test-unit test-sidecar test-browser test-conformance conformance-oip conformance-anonymity conformance-fairness conformance-lineage conformance-signing conformance-pii test-chart test-integration test-oldest fuzz soak bench-admission bench-attacks bench-audit bench-backdoor bench-evasion bench-sidecar bench-detect bench-grpc bench-he bench-explain bench-extraction bench-report soak-sink test-e2e cluster cluster-down images setup format generate lock
