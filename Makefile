# The operator's entry points. Each target is a thin caller of deploy/portalctl, which needs nothing but Python 3.11.

# Debian's own interpreter first: other Unix users can run it, one below somebody's home they cannot.
PYTHON := $(shell test -x /usr/bin/python3 && echo /usr/bin/python3 || command -v python3)
CTL := $(PYTHON) -B -m deploy.portalctl

.DEFAULT_GOAL := help
.PHONY: help up down clean test test-slow lint format bench image logs manage
export PORTAL_PORT PORTAL_STATE_DIR LIBVIRT_URI REDIS_URL

help: ## Show this list
	@echo "Targets:"
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 18
	@echo "Settings (make up NAME=value): PORTAL_PORT (8000), PORTAL_STATE_DIR (var), LIBVIRT_URI (qemu:///system), REDIS_URL."

up: ## Install, build, start everything; end with a demo tenant whose guest answers
	@$(CTL) up

down: ## Stop what `make up` started; nothing is lost
	@$(CTL) down

clean: ## Remove every trace: guests, volumes, networks, filters, state, virtual environment
	@$(CTL) clean

test: ## Lint, then all tests but the slow tier
	@$(CTL) test

test-slow: ## The tests that take minutes each
	@$(CTL) test-slow

lint: ## Lint, types, import rules and migrations only
	@$(CTL) lint

format: ## Lay out the code
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

bench: ## Measure (make bench ARGS="..."; ARGS=audit: the record alone)
	@$(CTL) bench $(ARGS)

image: ## Build the guest image if it is stale, and check it with an agent's turn
	@$(CTL) image

logs: ## Follow the services' logs
	@$(CTL) logs

manage: ## Run a management command (make manage ARGS="...")
	@deploy/run-as manage -- .venv/bin/python manage.py $(ARGS)
