# What a developer does here. It needs GNU make (3.81 or later) and Python 3.11 or later, and installs the rest into
# .venv and .tools. Another interpreter: `make PYTHON=python3.12 test`. Afterwards, any command of the project works
# without make: .venv/bin/clerk-supabase, .venv/bin/pytest, .tools/sam/bin/sam.

PYTHON ?= python3
# Passed on to pytest: `make test ARGS="tests/unit -k signature"`.
ARGS ?=

UV := .tools/uv/bin/uv
# SAM builds the layer with uv, which it looks for on the search path.
WITH_UV := PATH="$(CURDIR)/.tools/uv/bin:$$PATH"
export SAM_CLI_TELEMETRY := 0
# What is downloaded stays in this folder, so that a home folder may be read-only.
export UV_CACHE_DIR ?= $(CURDIR)/.tools/cache/uv
export PIP_CACHE_DIR ?= $(CURDIR)/.tools/cache/pip
export npm_config_cache ?= $(CURDIR)/.tools/cache/npm
# `sam build` runs make too: what was said to this one is not meant for that one.
unexport MAKEFLAGS MFLAGS
# Without bytecode the SAM CLI takes three times as long.
unexport PYTHONDONTWRITEBYTECODE
.NOTPARALLEL:

.PHONY: help
help: ## Say what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

# Set-up. A stamp lies in the environment it stands for, and is newer than what that was made from. The first one stands
# for this interpreter in this folder: a change of either makes every environment anew. INTERPRETER is `old` for one older
# than 3.11, `bare` for one that cannot make environments.

INTERPRETER := $(shell $(PYTHON) -c 'import sys, zlib; \
	print("old" if sys.version_info < (3, 11) else \
	"bare" if not __import__("importlib.util").util.find_spec("ensurepip") else \
	"%08x" % zlib.crc32(repr((sys.version, sys.base_prefix, sys.argv)).encode()))' "$(CURDIR)" 2>/dev/null)

.tools/python-$(INTERPRETER):
	$(if $(INTERPRETER),,$(error `$(PYTHON)` does not run: install Python 3.11 or later, or name one: make PYTHON=python3.12))
	$(if $(filter old,$(INTERPRETER)),$(error `$(PYTHON)` is older than 3.11: install a later one, or name it: make PYTHON=python3.12))
	$(if $(filter bare,$(INTERPRETER)),$(error `$(PYTHON)` cannot make environments: install its venv module (Debian, Ubuntu: apt install python3-venv)))
	@rm -rf .venv .tools/uv .tools/sam .tools/ministack .tools/outside .tools/audit .tools/lambda .tools/npm .tools/app .tools/browser .tools/peers .tools/python-*
	@mkdir -p .tools
	@touch $@

# Ends a recipe whose download failed with a line that says what to do; the whole output is in the log.
LOG = $(@D)/setup.log
OFFLINE = grep -Eiq 'connection|name resolution|dns error|proxy|timed out|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|sending request' $(LOG)
WHY = { $(OFFLINE) \
	&& echo "make: nothing could be downloaded: connect to the internet, or set HTTPS_PROXY and run this again ($(LOG))" >&2 \
	|| cat $(LOG) >&2; exit 1; }

PIP_INSTALL := install -qq --retries 2 --disable-pip-version-check --require-hashes --only-binary :all:
.tools/uv/.stamp: requirements/uv.txt .tools/python-$(INTERPRETER)
	@echo "Setting up .tools/uv"
	@# The pip that is there already spares the time of making one; before 22.3 it knows no --python.
	@$(PYTHON) -m venv --clear --without-pip .tools/uv
	@$(PYTHON) -m pip --python .tools/uv/bin/python $(PIP_INSTALL) -r $< >$(LOG) 2>&1 \
		|| { ! $(OFFLINE) && $(PYTHON) -m venv --clear .tools/uv \
			&& .tools/uv/bin/python -m pip $(PIP_INSTALL) -r $< >$(LOG) 2>&1; } || $(WHY)
	@touch $@

SYNC = $(UV) pip sync --quiet --require-hashes --only-binary :all:

.tools/sam/.stamp .tools/ministack/.stamp .tools/outside/.stamp .tools/audit/.stamp .tools/lambda/.stamp: .tools/%/.stamp: requirements/%.txt .tools/uv/.stamp
	@echo "Setting up .tools/$*"
	@$(UV) venv --quiet --allow-existing --python .tools/uv/bin/python .tools/$*
	@$(SYNC) --python .tools/$*/bin/python $< >$(LOG) 2>&1 || $(WHY)
	@$(if $(filter sam,$*),.tools/sam/bin/python -c "$$FASTER_SAM")
	@touch $@

# `sam deploy` parses the template seven times and packs the layer, which is most of its work. The wheel of PyYAML has the
# same parser in C, which SAM does not ask for; and an archive for this machine need not be small (local/stack.py).
define FASTER_SAM
import pathlib, sysconfig
line = "import os, yaml, zlib; yaml.SafeLoader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader); "
line += "zlib.Z_DEFAULT_COMPRESSION = int(os.environ.get('CLERK_SUPABASE_ZIP_LEVEL', -1))\n"
pathlib.Path(sysconfig.get_path("purelib"), "faster_sam.pth").write_text(line)
endef
export FASTER_SAM

# Its scripts are never run: none is needed, and they may fetch what nothing pins.
NPM := PATH="$(CURDIR)/.tools/outside/bin:$$PATH" npm --no-audit --no-fund --no-update-notifier --ignore-scripts
.tools/npm/.stamp: requirements/npm/package-lock.json requirements/npm/package.json .tools/outside/.stamp
	@echo "Setting up .tools/npm"
	@mkdir -p .tools/npm
	@cp requirements/npm/package.json requirements/npm/package-lock.json .tools/npm
	@$(NPM) --loglevel error --prefix .tools/npm ci >$(LOG) 2>&1 || $(WHY)
	@touch $@

# What stands behind an app on this machine: Clerk's scripts for browsers and PostgREST, 60 MB. The lock file names these
# packages alone, without the 500 MB that they depend on: the scripts are bundles. npm is the user's own, if there is one.
# `browser`: a checker of accessibility for the tests in a browser. `peers`: programs that the bench compares with.
APP := .tools/app/.stamp
.tools/app/.stamp .tools/browser/.stamp .tools/peers/.stamp: .tools/%/.stamp: requirements/%/package-lock.json requirements/%/package.json \
		$(if $(shell command -v npm),.tools/python-$(INTERPRETER),.tools/outside/.stamp)
	@echo "Setting up .tools/$*"
	@mkdir -p .tools/$*
	@cp requirements/$*/package.json requirements/$*/package-lock.json .tools/$*
	@$(NPM) --loglevel error --prefix .tools/$* ci >/dev/null
	@touch $@

# The example of an app, for the tests in a browser.
EXAMPLE := examples/nextjs/node_modules/.stamp
$(EXAMPLE): examples/nextjs/package-lock.json examples/nextjs/package.json $(APP)
	@echo "Setting up examples/nextjs"
	@$(NPM) --loglevel error --prefix examples/nextjs ci >/dev/null
	@touch $@

# .venv holds the layer, the command and what they need (cli); `make test` and `make check` add their own tools (dev).
PACKAGES := layers/shared cli
.venv/.stamp-cli .venv/.stamp-dev: .venv/.stamp-%: requirements/%.txt $(PACKAGES:=/pyproject.toml) cli/backend/wheels.py .tools/uv/.stamp
	@echo "Setting up .venv ($*)"
	@$(UV) venv --quiet --allow-existing --python .tools/uv/bin/python .venv
	@$(SYNC) --python .venv/bin/python $< >$(LOG) 2>&1 || $(WHY)
	@# uv builds these itself. Offline: it must never fetch a build backend, whose version nothing pins.
	@$(UV) pip install --quiet --python .venv/bin/python --offline --no-cache --no-deps $(PACKAGES:%=--editable %)
	@rm -f .venv/.stamp-*
	@touch $@

CLI := $(if $(wildcard .venv/.stamp-dev),.venv/.stamp-dev,.venv/.stamp-cli)
DEV := .venv/.stamp-dev
LOCAL_STACK := .tools/sam/.stamp .tools/ministack/.stamp
AUDIT := .tools/audit/.stamp

.PHONY: setup
setup: $(CLI) $(LOCAL_STACK) ## Install what the demo and the `clerk-supabase` command need

# When it was typed, so that what is installed first counts too.
STARTED := $(shell date +%s)

.PHONY: dev demo tools packages test outside stacks sam-local browser bench simulate
dev: setup $(if $(findstring --app,$(ARGS)),$(APP)) ## Keep the whole stack running here until Ctrl-C, and show what it does (ARGS="..." for clerk-supabase dev)
	@CLERK_SUPABASE_STARTED=$(STARTED) $(WITH_UV) .venv/bin/clerk-supabase dev $(ARGS)

demo: setup ## Deploy to an emulated AWS on this machine, send webhooks, show that Postgres agrees
	@$(WITH_UV) .venv/bin/clerk-supabase demo $(ARGS)

tools: $(DEV) $(LOCAL_STACK) $(AUDIT)

# What `make outside`, `make sam-local` and `make browser` install beside the tools: CI does it early.
packages: .tools/npm/.stamp .tools/lambda/.stamp $(EXAMPLE) .tools/browser/.stamp

# Several processes, because tests of the deployed stack mostly wait: they come first, and the others meanwhile. More
# than two processors, because any test waits for Postgres now and then; not more than four, because each process
# collects all tests, which takes nine seconds of a processor. Of costly tests, it runs as many cases as try each value of
# each parameter (tests/kit/cases.py); ARGS=--exhaustive: all.
test: tools ## Run the tests (ARGS="..." for pytest)
	@$(WITH_UV) .venv/bin/pytest --numprocesses 4 --dist loadscope --no-loadscope-reorder $(ARGS)

# Not for every `make test`: it installs 400 MB and needs Linux on x86-64 and pgbouncer. Some of what sync does with the
# database is done once more, through a pooler and on the oldest Postgres.
OUTSIDE := tests/outside $(patsubst %,tests/integration/test_%.py,order deliveries parking retry reconcile)
outside: $(DEV) .tools/npm/.stamp ## Test with what is around it: Supabase's API, clients and command, ORMs, and pgbouncer
	@.venv/bin/pytest --through-pooler --postgres 16 --numprocesses 2 --dist loadgroup $(OUTSIDE) $(ARGS)

# Several at once, because each waits for its own stack. Not for every `make test`: most of it is `sam deploy`, over and over.
stacks: $(DEV) $(LOCAL_STACK) ## Test what becomes of whole stacks: dev, deploy, update, roll back, delete
	@$(WITH_UV) .venv/bin/pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder tests/stacks $(ARGS)

# Not for every `make test` either: it needs a container engine, or root to start one, and the ports that `dev` takes.
sam-local: $(DEV) $(LOCAL_STACK) .tools/lambda/.stamp ## Test `sam local` as docs/develop.md types it, in containers
	@$(WITH_UV) .venv/bin/pytest tests/sam_local $(ARGS)

# Nor this one: it needs Chromium.
browser: $(DEV) $(LOCAL_STACK) $(EXAMPLE) .tools/browser/.stamp ## Test the example of an app and the console in a browser, and a hostile page
	@$(WITH_UV) .venv/bin/pytest tests/browser $(ARGS)

simulate: $(CLI) ## Try random webhooks, crashes, lagging APIs and edits by hand (RUNS=100000, SEED=7, JOBS=2)
	@.venv/bin/clerk-supabase simulate $(RUNS:%=--runs %) $(SEED:%=--seed %) $(JOBS:%=--jobs %)

# Without --only, the bench measures everything, and so beside its peers.
PEERS := $(if $(findstring --only,$(ARGS)),$(if $(findstring peers,$(ARGS)),.tools/peers/.stamp),.tools/peers/.stamp)
bench: $(DEV) $(LOCAL_STACK) $(PEERS) ## Measure, as ratios to a baseline of the same run
	@$(WITH_UV) .venv/bin/python -m tests.bench $(ARGS)

# Nor this one: half a minute for ten mutants. KIND: python, sql, template or all; N: how many; JOBS: how many at once.
.PHONY: mutate
mutate: $(DEV) $(LOCAL_STACK) ## Change the code at random, see whether a test notices (SEED=7 N=100 KIND=sql JOBS=2)
	@$(WITH_UV) .venv/bin/python -m tests.mutate $(SEED:%=--seed %) $(N:%=--count %) $(KIND:%=--kind %) $(JOBS:%=--jobs %) $(ARGS)

.PHONY: cost
cost: $(DEV) ## Compute what AWS charges, from what was measured (ARGS=--write: anew in docs/cost.md)
	@.venv/bin/python -m tests.bench.cost $(ARGS)

.PHONY: check style language types imports template sql licenses pins
# Early what waits for the network: in CI, what runs beside it computes meanwhile. TESTED: set in CI, where `make test` has
# read the language.
check: style $(if $(TESTED),,language) pins types imports template sql licenses ## Run the linters and the type checker

style: $(DEV)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

language: $(DEV)
	.venv/bin/pytest -q tests/infrastructure/test_language.py

types: $(DEV)
	.venv/bin/mypy

imports: $(DEV)
	.venv/bin/lint-imports --no-logo

# SAM runs cfn-lint, with .cfnlintrc.
template: .tools/sam/.stamp
	.tools/sam/bin/sam validate --lint

sql: $(DEV)
	.venv/bin/sqlfluff lint --disable-progress-bar sql

# What `migrate` and `doctor` compare a database with.
.PHONY: objects
objects: $(DEV) ## Write sql/objects.json anew, the list of what the migrations make
	@.venv/bin/python -m tests.kit.objects

.PHONY: version
version: $(DEV) ## Write another version of this project into each place (NUMBER=1.1.0)
	@.venv/bin/python -m tests.kit.version $(NUMBER)

# Last of all changes of sql/migrations before a release: from then on, a test fails if one of these files changes.
.PHONY: freeze
freeze: $(DEV) ## Write sql/released/VERSION.json, the checksums of the migrations of this version
	@.venv/bin/python -m tests.kit.released

.PHONY: mirrored
mirrored: $(DEV) ## Write docs/what-is-mirrored.md anew: each event type and field of Clerk, with its column
	@.venv/bin/python -m tests.kit.mirrored

.PHONY: pictures
pictures: $(DEV) $(LOCAL_STACK) $(EXAMPLE) .tools/browser/.stamp ## Take and draw the pictures of the documents (ARGS=--draw: only draw)
	@$(WITH_UV) .venv/bin/python -m tests.pictures $(ARGS)

# The supply chain: what ships, and what is known about it.

licenses: $(DEV) ## Check the licences of what ships (ARGS=--write: list them anew in docs/licenses.md)
	.venv/bin/python -m tests.supply.licenses $(ARGS)

.PHONY: sbom audit
sbom: $(DEV) $(AUDIT) ## Write the bill of materials of the layer that `sam build` made
	@.venv/bin/python -m tests.supply.bill $(ARGS)

audit: $(DEV) $(AUDIT) ## Look for known vulnerabilities in what is pinned (ARGS=--strict: fail without a network)
	@.venv/bin/python -m tests.supply.audit $(ARGS)

# PASSED: the commit that CI tested elsewhere. PAGE: the address of the project, unless git's `origin` has it.
.PHONY: release
release: $(DEV) $(AUDIT) .tools/sam/.stamp ## Build everything that is published, and print the commands that publish it
	@$(WITH_UV) .venv/bin/python -m tests.supply.release $(PASSED:%=--passed %) $(PAGE:%=--page %) $(ARGS)

# Pins: every version and hash that gets installed. A pin stays until its source excludes it; `make lock UPGRADE=1` moves all.

COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url $(if $(UPGRADE),--upgrade)
LAYER_PINS := layers/shared/requirements.txt
NPM_PINS := $(patsubst %,%/package-lock.json,$(patsubst %,requirements/%,npm app browser peers) examples/nextjs)
PINS := $(LAYER_PINS) $(patsubst %,requirements/%.txt,uv cli dev sam ministack outside audit lambda)

# $(1): where the results go, "" or a folder with a copy of them. The layer decides the versions the others share.
define compile_pins
	@$(COMPILE) layers/shared/pyproject.toml --constraints requirements/constraints.in \
		--output-file $(1)$(LAYER_PINS) >/dev/null
	@$(COMPILE) $(PACKAGES:=/pyproject.toml) --constraints $(LAYER_PINS) --output-file $(1)requirements/cli.txt >/dev/null
	@$(COMPILE) requirements/dev.in $(PACKAGES:=/pyproject.toml) --constraints requirements/cli.txt \
		--output-file $(1)requirements/dev.txt >/dev/null
	@for tool in uv sam ministack outside audit lambda; do \
		$(COMPILE) requirements/$$tool.in --output-file $(1)requirements/$$tool.txt >/dev/null || exit 1; \
	done
endef

.PHONY: lock
lock: .tools/uv/.stamp ## Write the pins anew (UPGRADE=1: move every one to its newest version)
	$(call compile_pins,)

# Those of npm follow from package.json, where each version is exact: `npm ci` refuses to install from any others.
.PHONY: lock-npm
lock-npm: .tools/outside/.stamp ## Write the pins of npm anew
	@rm -f requirements/npm/package-lock.json
	@cd requirements/npm && $(NPM) --package-lock-only install >/dev/null

pins: .tools/uv/.stamp
	@rm -rf .tools/pins && mkdir -p .tools/pins/requirements .tools/pins/layers/shared
	@for file in $(PINS); do cp $$file .tools/pins/$$file || exit 1; done
	$(call compile_pins,.tools/pins/)
	@for file in $(PINS); do diff -u $$file .tools/pins/$$file \
		|| { echo "$$file does not follow from its source: run \`make lock\`" >&2; exit 1; }; done
	@! grep -n '://' $(PINS) && ! grep -n '"resolved"' $(NPM_PINS) \
		|| { echo "pins must not name a package index" >&2; exit 1; }
