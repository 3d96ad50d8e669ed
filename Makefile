# Short names for what scripts/ and cargo do; `make help` lists them.
SHELL := bash
ENV := . scripts/env.sh &&
FOR ?= 60s

.DEFAULT_GOAL := help
.PHONY: help setup build install demo demo-train loop test bench lint docs screenshot broker-up broker-down clean-state

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: ## Install what is missing on this machine (fast when nothing is)
	@scripts/setup.sh

build: setup ## Build the release binary
	@$(ENV) cargo build --release && echo "$$CARGO_TARGET_DIR/release/driftline"

install: build ## Put the driftline command where cargo puts commands
	@install -D -m 755 "$$($(ENV) echo $$CARGO_TARGET_DIR)/release/driftline" "$${CARGO_HOME:-$$HOME/.cargo}/bin/driftline" && echo "$${CARGO_HOME:-$$HOME/.cargo}/bin/driftline"

demo: ## Watch it work on a real broker; FOR=60s, ARGS='more flags'
	@scripts/demo.sh --for $(FOR) $(ARGS)

demo-train: ## A first model from its own traffic: lake, training, report, promotion; DAYS=4
	@scripts/demo-train.sh

loop: ## The closed loop against scenarios, in compressed event time; SCENARIOS='taste-shift …'
	@scripts/loop.sh

test: ## Lint, build, every test on a real broker, a short demo
	@scripts/test.sh

bench: setup ## Run the benchmarks; ARGS='name' picks some
	@$(ENV) cargo bench $(ARGS)

lint: setup ## Check formatting and clippy
	@scripts/lint.sh

docs: setup ## Build the API documentation
	@$(ENV) cargo doc --no-deps --release && echo "$$CARGO_TARGET_DIR/doc/driftline/index.html"

screenshot: setup ## Make the picture of the dashboard anew, in Chromium
	@$(ENV) scripts/screenshot.sh

broker-up: setup ## Start a Kafka broker and print its address
	@scripts/broker.sh up

broker-down: ## Stop that broker; its data stays
	@scripts/broker.sh down

clean-state: ## Forget what the demo and its broker stored (builds stay)
	@[ -n "$$DRIFTLINE_BOOTSTRAP" ] || scripts/broker.sh wipe
	@$(ENV) rm -rf "$$DRIFTLINE_STATE_DIR"
