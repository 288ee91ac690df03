# What people type. Each target makes .venv when it is missing, and does nothing twice.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help install demo test bench sanitize lint format clean

help:
	@echo "make demo     train a forecaster on real sensor readings, see it beat simple methods, run it live (3 minutes)"
	@echo "make test     run the tests"
	@echo "make bench    measure a streamed step and a training step"
	@echo "make sanitize run the parity tests under AddressSanitizer and UndefinedBehaviorSanitizer"
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

# The parity tests on an engine built with AddressSanitizer and UndefinedBehaviorSanitizer, in an environment of its own
# that borrows the packages of .venv.
sanitize: $(INSTALLED)
	test -d build/sanitize || $(PYTHON) -m venv build/sanitize
	echo "$(CURDIR)/$$(ls -d .venv/lib/python*/site-packages)" > $$(ls -d build/sanitize/lib/python*/site-packages)/borrowed.pth
	build/sanitize/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall \
	  -C cmake.define.MEMORYCELL_SANITIZE=ON -C build-dir=build/sanitize-cmake .
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1 \
	  build/sanitize/bin/python -m pytest tests/parity -q -p no:cacheprovider -m "not data" -k "not forced"

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
