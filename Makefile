# FlowAccount Connect on one machine. `make run` shows it, `make test` tests it; see README.md.

.DEFAULT_GOAL := help
.PHONY: about-test docs fuzz help run up down env dashboard probe test check lint typecheck validate explore mutants campaign simulate bench screenshots audit format build deploy secret publish lock clean bootstrap

# Written for GNU make 3.81, which macOS has. It runs a simple line without a shell, and looks its command up in the PATH that make
# itself was started with. So each tool is called by its path.
TOOLS := .local/venv/bin
PYTHON := $(TOOLS)/python
# For what the tools start: those of the environment first, with them Python 3.13, uv and sam; but not for what makes that environment.
PATH_BEFORE := $(PATH)
export PATH := $(CURDIR)/$(TOOLS):$(PATH)
export SAM_CLI_TELEMETRY := 0

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make up takes settings: AUTHORIZE_ENDPOINT TOKEN_ENDPOINT CLIENT_ID CLIENT_SECRET REDIRECT_URI ALLOWED_RETURN_URLS"
	@echo "  ENVIRONMENT REFRESH_AFTER REFRESH_TOKEN_LIFETIME ACCESS_TOKEN_LIFETIME REFRESHES_PER_MINUTE REPLAY_POLICY ISSUER PORT …"

run: bootstrap ## Bring the stack up, connect a business in a browser, and stay until Ctrl-C
	@$(PYTHON) -m tools.local.demo

up: bootstrap ## Bring the stack up in the background; .local/stack.json says what is where
	@$(PYTHON) -m tools.local.up

down: ## End what `make up` started
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m tools.local.down; else echo "nothing is running"; fi

env: bootstrap ## Print the exports that the README's examples need: eval "$$(make env)"
	@$(PYTHON) -m tools.local.env

dashboard: bootstrap ## Draw the CloudWatch dashboard of the stack that is up; .local/dashboard/dashboard.png
	@$(PYTHON) -m tools.local.dashboard

# RATE_LIMIT=1 PACE=15; docs/probe.md. The client secret is best exported, or typed when asked for.
probe: bootstrap ## Find out how FlowAccount behaves where its documentation is silent (without CLIENT_ID: a demonstration)
	@PYTHONPATH=layers/connector $(PYTHON) -m tools.probe

test: about-test check ## Check everything, then run all tests
	@$(PYTHON) -m pytest -p tests.support.processes --numprocesses 3 --dist loadscope $(PYTEST)

about-test: bootstrap
	@echo "Checks style, types and template (1 minute), then runs all tests: unit, proof of the rotation, contract, simulator,"
	@echo "template, and end to end on deployed local stacks in a browser. Three processes: two have a stack. 12 to 25 minutes on two cores."

check: lint typecheck validate ## Lint, types, template

lint: bootstrap
	@$(TOOLS)/ruff check .
	@$(TOOLS)/ruff format --check .

typecheck: bootstrap
	@$(TOOLS)/mypy .

validate: bootstrap
	@AWS_DEFAULT_REGION=ap-southeast-1 $(TOOLS)/sam validate --lint

# The proof of the rotation: every reachable state, and every rule taken out once. DEEP=1 for millions of states.
explore: bootstrap ## Visit every state of the rotation and check its invariants (DEEP=1: millions of states)
	@PYTHONPATH=layers/connector $(PYTHON) -m tests.model.explore $(if $(DEEP),--deep)

mutants: bootstrap ## Take each rule out of the rotation and show what notices
	@PYTHONPATH=layers/connector $(PYTHON) -m tests.model.mutants

campaign: bootstrap ## Kill refresh workers and lose answers at random, account for every token (a quarter of an hour)
	@$(PYTHON) -m tools.campaign $(CAMPAIGN)

# SIMULATE="--short", "--days 10", "--seed 2"; the picture of docs/ is drawn by SIMULATE="--picture docs/scheduling.svg".
simulate: bootstrap ## Thirty days in a virtual clock: our schedule and those of others, what each loses (a quarter of an hour)
	@PYTHONPATH=layers/connector $(PYTHON) -m tools.simulation.simulate $(SIMULATE)

# BENCH="--only cold", "--only calls warm worker", "--short", "--write-docs" for docs/performance.md; docs/performance.md.
bench: bootstrap ## Cold starts, CPU, memory, calls, throughput and money, beside what one would write instead (ten minutes)
	@PYTHONPATH=layers/connector $(PYTHON) -m tools.benchmarks $(BENCH)

screenshots: bootstrap ## Take pictures of every page, in both languages, on phone and desktop, light and dark
	@PYTHONPATH=layers/connector $(PYTHON) -m tools.local.gallery

audit: bootstrap ## Look at template, sources and shipped packages with checkov, bandit and more; .local/audit/sbom.json
	@$(PYTHON) -m tools.audit

# The module's own names, and the modules that an app imports beside it.
docs: bootstrap ## Make the Python client's reference and a Postman collection of the API; .local/docs
	@PYTHONPATH=clients/python $(PYTHON) -m pdoc -o .local/docs $(addprefix flowaccount_connect_client,"" .errors .httpx_auth .webhooks .testing)
	@$(PYTHON) -m tools.collection .local/docs/flowaccount-connect.postman_collection.json

fuzz: bootstrap ## Send a few hundred generated requests to every route of the deployed local stack
	@FUZZ_EXAMPLES=$(or $(FUZZ_EXAMPLES),300) $(PYTHON) -m pytest tests/e2e/test_openapi.py --timeout 3600

format: bootstrap ## Format the sources
	@$(TOOLS)/ruff format .
	@$(TOOLS)/ruff check --fix .

build: bootstrap ## Build what `sam deploy` deploys (LAYER_ARCHITECTURE=arm64 for Arm)
	@LAYER_CACHE="$(CURDIR)/.local/cache" $(TOOLS)/sam build
	@$(PYTHON) -m tools.local.built_for

# ENVIRONMENT=production EMAIL=… RETURN_URLS=… STACK=… PARAMETERS="Name=value …"; docs/deploying.md.
deploy: bootstrap ## Deploy to your AWS account: CLIENT_ID=… without a question, without it with four
	@$(PYTHON) -m tools.deploy

# docs/deploying.md, By a link.
publish: bootstrap ## Put template and code into a bucket of yours (BUCKET=…), and print the quick-create link
	@$(PYTHON) -m tools.deploy.publish

secret: bootstrap ## Put in the client secret, typed hidden (STACK=… for another than flowaccount-connect)
	@$(PYTHON) -m tools.deploy.secret

# Pins every version again, with hashes, for all platforms. The layer takes the versions that the tools were tested with.
PIN = $(TOOLS)/uv pip compile --quiet --no-config --universal --upgrade --python-version 3.13 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links
lock: bootstrap ## Pin newer versions of all packages
	$(PIN) requirements/dev.in -o requirements/dev.txt
	$(PIN) -c requirements/dev.txt layers/dependencies/requirements.in -o layers/dependencies/requirements.txt
	$(PIN) -c requirements/dev.txt requirements/instead.in -o requirements/instead.txt
	$(subst 3.13,3.10,$(PIN)) requirements/client.in -o requirements/client.txt
	$(PIN) requirements/emulator.in -o requirements/emulator.txt
	$(PIN) -c requirements/dev.txt requirements/bootstrap.in -o requirements/bootstrap.txt
	$(PIN) requirements/audit.in -o requirements/audit.txt
	$(PIN) requirements/checkov.in -o requirements/checkov.txt

clean: down ## Remove everything that was built or installed here
	rm -rf .local .aws-sam

bootstrap:
	@PATH="$(PATH_BEFORE)" command -v python3 >/dev/null || { echo "error: python3 is missing: install Python, best 3.13." >&2; exit 1; }
	@PATH="$(PATH_BEFORE)" python3 tools/local/bootstrap.py
