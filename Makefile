# What people type. Each target makes .venv when it is missing, and does nothing twice.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help install demo test bench lint format clean

help:
	@echo "make demo     train a forecaster on real sensor readings, see it beat simple methods, run it live (3 minutes)"
	@echo "make test     run the tests"
	@echo "make bench    measure a streamed step and a training step"
	@echo "make lint     ruff, mypy, import-linter, clang-format"
	@echo "make install  make .venv with everything"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/*)
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[forecast,data,bench,log,dev]'
	@touch $@

demo: $(INSTALLED)
	@mkdir -p demo
	$(BIN)/memorycell train forecast glucose --out demo/glucose.safetensors --report demo/report.html
	$(BIN)/python docs/examples/live_day.py demo/glucose.safetensors
	@echo
	@echo "Next: open demo/report.html, then"
	@echo "  $(BIN)/memorycell tasks"
	@echo "  $(BIN)/memorycell train forecast YOUR.csv --set target=COLUMN"

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2

bench: $(INSTALLED)
	$(BIN)/memorycell bench step --hidden 64 --hidden 128 --hidden 256 --hidden 512 --peers torch,onnxruntime
	$(BIN)/memorycell bench step --hidden 256 --hidden 512 --hidden 1024 --precision int8 --peers onnxruntime
	$(BIN)/memorycell bench train --hidden 128 --hidden 256 --precision float32 --precision bfloat16
	$(BIN)/memorycell bench train --hidden 256 --cell peephole --cell coupled --cell layernorm --peers reference
	$(BIN)/python benchmarks/forecast_step.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(wildcard csrc/*.hpp csrc/*.cpp)

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(wildcard csrc/*.hpp csrc/*.cpp)

clean:
	rm -rf build dist demo .venv
