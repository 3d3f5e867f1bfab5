# What people and CI run. Each target says what it does; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help deps demo test test-peers lint bench

# What `make test` printed: its last step looks there for the tests that the documents name.
RUN := $(or $(CARGO_TARGET_DIR),target)/test-run.txt

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

deps: ## Install compiler packages and PostgreSQL if they are missing (asks when not root)
	@sh scripts/deps.sh

demo: deps ## One minute: an agent with a task's credential, and what happens to it
	@bash examples/quickstart/demo.sh

# A failure of what is piped into `tee` is one.
test: SHELL := bash
test: .SHELLFLAGS := -o pipefail -c
test: deps ## All tests, against real components on 127.0.0.1 (ARGS='-p server-store' narrows)
	@[ -n "$$ERRAND_CORPORA" ] || echo "test: ERRAND_CORPORA is not set: tests use the vectors in the tree only"
	@mkdir -p "$(dir $(RUN))"
	cargo test --locked --no-fail-fast $(or $(ARGS),--workspace) | tee "$(RUN)"
	@$(if $(ARGS),echo "test: not everything ran: what the documents claim was not compared with it",cargo run --locked --quiet -p tests-evidence -- "$(RUN)")

test-peers: deps ## Other people's SPIFFE clients against a running errand dev (needs Go, and the network once)
	@bash tests/peers/run.sh

lint: ## Formatting, clippy, and the dependency rules of deny.toml
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@command -v cargo-deny >/dev/null || { echo "lint: cargo-deny is missing: installing it, about 3 minutes"; cargo install --locked cargo-deny; }
	cargo deny --log-level error check -A unused-wrapper bans licenses sources

bench: deps ## How fast and how slow, on this machine (release build; ROWS=ssh,leases narrows)
	cargo run --locked --release -p bench -- $(if $(ROWS),--rows $(ROWS))
