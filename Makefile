# make demo   an election, a killed leader, a fail-over and a verdict; needs Python alone
# make test   installs what the tests need, servers included, and runs them all
# make quick  the tests that need no server, in less than a minute
# make lint   ruff and mypy --strict
# make bench  measurements; nothing is asserted
# make docs   writes the pages that are made from data (promises, glossary, JSON)
# make site   the pages of docs/ as a site in site/, readable without network
# make hunt   the tests that need no server, with other random examples each time
# make soak   simulated Raft clusters, seed after seed, until stopped
# make mutants TARGET=campaign   which small changes of what decides no test notices (raft, campaign, core)
# make outside SCHEME=etcd NODES=3 ROUNDS=20   exclusion measured from outside, under every fault

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
SCHEME ?= redis
NODES  ?= 1
ROUNDS ?= 20
TARGET ?= raft
CORES  := $(shell nproc 2>/dev/null || echo 2)
WORKERS       ?= $(shell echo $$((4 * $(CORES))))
QUICK_WORKERS ?= $(shell echo $$((1 + 2 * $(CORES))))
QUIET_WORKERS ?= $(shell echo $$((1 + $(CORES))))
BY_FILE := --dist loadfile --no-loadscope-reorder

# program (or file) and the Debian package it is from
SERVERS := redis-server:redis-server redis-sentinel:redis-sentinel openssl:openssl \
           etcd:etcd-server etcdctl:etcd-client \
           /usr/share/java/zookeeper.jar:zookeeper java:default-jre-headless \
           /usr/share/java/curator-recipes.jar:libcurator-recipes-java javac:default-jdk-headless \
           $(firstword $(wildcard /usr/lib/postgresql/*/bin/postgres) postgres):postgresql \
           psql:postgresql-client systemd-analyze:systemd pkill:procps chromium:chromium \
           faketime:faketime

# The tests start thousands of Pythons, which must not all compile the same modules.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test quick lint bench docs site hunt soak mutants outside servers clean

demo: $(VENV)/installed
	$(BIN)/python examples/demo.py

# Four for each core: most tests wait for a lease to run out. Those that measure come after, then
# those that load the whole host; what failed among others runs again, alone (tests/again.py).
test: $(VENV)/developed servers
	rm -rf .pytest_cache
	$(BIN)/pytest -m "not quiet and not alone" --numprocesses $(WORKERS) $(BY_FILE) || test $$? = 1
	$(BIN)/pytest -m "quiet and not alone" --numprocesses $(QUIET_WORKERS) $(BY_FILE) || test $$? = 1
	$(BIN)/pytest -m alone || test $$? = 1
	$(BIN)/python tests/again.py

quick: $(VENV)/developed
	$(BIN)/pytest -m "not server and not slow and not quiet and not alone" --numprocesses $(QUICK_WORKERS) --dist worksteal

lint: $(VENV)/developed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/developed servers
	$(BIN)/python -m benchmarks

docs: $(VENV)/developed
	$(BIN)/python docs/generate.py

site: docs
	$(BIN)/mkdocs build --quiet --strict

hunt: $(VENV)/developed
	$(BIN)/pytest -m "not server and not quiet and not alone" --hypothesis-profile=random --numprocesses $(CORES) --dist worksteal

soak: $(VENV)/developed
	$(BIN)/python -m benchmarks.soak

mutants: $(VENV)/developed
	$(BIN)/python -m benchmarks.mutants --target $(TARGET)

outside: $(VENV)/developed servers
	$(BIN)/python -m benchmarks.outside --scheme $(SCHEME) --nodes $(NODES) --rounds $(ROUNDS)

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --use-pep517 --editable .
	touch $@

$(VENV)/developed: $(VENV)/installed pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --use-pep517 --editable '.[dev]'
	touch $@

# Installs the missing ones; says what to install where there is no apt-get or no right to use it.
servers:
	@missing=; for pair in $(SERVERS); do \
	  program=$${pair%%:*}; \
	  test -e "$$program" || PATH=$$PATH:/usr/sbin:/sbin command -v "$$program" >/dev/null \
	    || missing="$$missing $${pair##*:}"; \
	done; \
	if [ -n "$$missing" ]; then \
	  command -v apt-get >/dev/null || { echo "please install:$$missing" >&2; exit 69; }; \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  echo "installing$$missing"; log=$$(mktemp); \
	  { $$sudo apt-get update -qq && \
	    $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	  } >$$log 2>&1 || { tail -20 $$log >&2; rm -f $$log; exit 69; }; \
	  rm -f $$log; \
	fi

clean:
	rm -rf $(VENV) dist build site .mypy_cache .ruff_cache .pytest_cache .hypothesis
