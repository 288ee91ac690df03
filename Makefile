# Every target installs .venv first if it is missing or out of date.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help install debian-packages demo test bench bench-command bench-scripts sanitize sanitize-threads no-compiler lint docs format clean

help:
	@echo "make demo     train a forecaster on real sensor readings, compare it with baselines, run it live (3 minutes; SMOKE=1: seconds)"
	@echo "make test     run the tests (SLOW=1: also those of ten seconds and more)"
	@echo "make bench    measure live steps, sessions and training steps against PyTorch and ONNX Runtime (SMOKE=1: small sizes)"
	@echo "make sanitize run the parity tests under AddressSanitizer and UndefinedBehaviorSanitizer (SMOKE=1: the engine's, in minutes)"
	@echo "make sanitize-threads  run the engine's threads under ThreadSanitizer (MEMORYCELL_STRESS_ROUNDS=N: longer)"
	@echo "make no-compiler  install without the native engine and run the tests that do not need it"
	@echo "make fuzz     damaged models, states and inputs for MINUTES=10, on all cores; SEED= repeats a run"
	@echo "make lint     ruff, mypy, import-linter, clang-format"
	@echo "make docs     build the documentation site in build/site; a broken link fails"
	@echo "make install  install everything into .venv"
	@echo "make debian-packages  install Chromium and Redis, which the tests of the page and the server drive (Debian, as root)"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/*)
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[forecast,excel,classic,sequences,sklearn,anomaly,language,speech,handwriting,music,musicxml,video,control,serve,tune,data,bench,keras,log,docs,dev]'
	@touch $@

# A browser and a database that some tests drive; without them those tests are skipped.
debian-packages:
	(command -v chromium && command -v redis-server) || (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium redis-server)

demo: $(INSTALLED)
	@mkdir -p demo
	$(BIN)/memorycell train forecast glucose $(if $(SMOKE),--set epochs=1 --set hidden=8) --out demo/glucose.safetensors --report demo/report.html
	$(BIN)/python docs/examples/live_day.py demo/glucose.safetensors
	@echo
	@echo "Next: open demo/report.html, then"
	@echo "  $(BIN)/memorycell tasks"
	@echo "  $(BIN)/memorycell train forecast YOUR.csv --set target=COLUMN"

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 $(if $(SLOW),,-m "not slow")

# With SMOKE=1 every benchmark runs on small sizes, two at a time, to check that it works. Without it
# quality is left out, which takes hours, and so is NeuralForecast, which takes 2 GB: see benchmarks/README.md.
small := $(if $(SMOKE),--hidden 16 --batch 2 --steps 5 --sessions 4)
smoke := $(if $(SMOKE),--smoke)
bench: $(INSTALLED)
	$(MAKE) $(if $(SMOKE),-j2 --output-sync,-j1) bench-command bench-scripts

bench-command:
	$(BIN)/memorycell bench step $(or $(small),--hidden 64 --hidden 128 --hidden 256 --hidden 512) --peers torch,onnxruntime
	$(BIN)/memorycell bench step $(or $(small),--hidden 256 --hidden 512 --hidden 1024) --precision int8 --peers onnxruntime
	$(BIN)/memorycell bench stream $(small) --peers torch,onnxruntime
	$(BIN)/memorycell bench sessions $(or $(small),--hidden 256) --precision float32 --precision bfloat16 --precision int8 --peers torch,onnxruntime
	$(BIN)/memorycell bench forward $(or $(small),--hidden 64 --hidden 256) --threads 1 --threads 2 --peers torch,onnxruntime
	$(BIN)/memorycell bench train $(or $(small),--hidden 64 --hidden 128 --hidden 256 --hidden 512) --precision float32 --precision bfloat16
	$(BIN)/memorycell bench train $(or $(small),--hidden 256) --cell peephole --cell coupled --cell layernorm --peers reference
	$(BIN)/memorycell bench train $(or $(small),--hidden 256) --zoneout 0.1 --peers reference

bench-scripts: export OPENBLAS_NUM_THREADS := $(if $(SMOKE),1,$(OPENBLAS_NUM_THREADS))
bench-scripts:
	$(BIN)/python benchmarks/scaling.py --threads 1 --threads 2 $(smoke)
	$(BIN)/python benchmarks/forecast_step.py $(smoke)
	$(BIN)/python benchmarks/large_table.py $(if $(SMOKE),--smoke --source parquet)
	$(BIN)/python benchmarks/session_pool.py $(smoke)
	$(BIN)/python benchmarks/anomaly_live.py $(smoke)
	$(BIN)/python benchmarks/speech_live.py $(smoke)
	$(BIN)/python benchmarks/sequences_live.py $(smoke)
	$(if $(SMOKE),$(BIN)/python benchmarks/speech_conditions.py --smoke)
	$(if $(SMOKE),$(BIN)/python benchmarks/unknown_texts.py --smoke)
	$(if $(SMOKE),$(BIN)/python benchmarks/wake_words.py --smoke)
	$(if $(SMOKE),$(BIN)/python benchmarks/legibility.py --smoke)
	$(if $(SMOKE),$(BIN)/python benchmarks/skab.py --smoke)
	$(if $(shell command -v chromium),$(BIN)/python benchmarks/page.py $(if $(SMOKE),--steps 300 --seconds 1))
	$(BIN)/python benchmarks/conv.py $(smoke)
	$(BIN)/python benchmarks/cells.py $(smoke)
	$(if $(shell command -v redis-server),$(BIN)/python benchmarks/redis_rows.py $(smoke))
	$(if $(SMOKE),,$(BIN)/python benchmarks/control.py live)
	$(BIN)/python benchmarks/serve.py $(if $(SMOKE),--smoke --row messages --row kills,--peer)
	$(if $(SMOKE),$(BIN)/python benchmarks/scale.py predict --smoke)
	$(if $(SMOKE),$(BIN)/python benchmarks/quality.py --smoke > /dev/null)
	$(if $(SMOKE),$(BIN)/python benchmarks/defaults.py --smoke)
	$(if $(SMOKE),$(BIN)/python benchmarks/peers_forecast.py --smoke)

# A second environment, build/$(1), with the packages of .venv, for other builds of memorycell.
define other_environment
	test -d build/$(1) || $(PYTHON) -m venv build/$(1)
	echo "$(CURDIR)/$$(ls -d .venv/lib/python*/site-packages)" > $$(ls -d build/$(1)/lib/python*/site-packages)/borrowed.pth
endef
install_again := -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall

# The parity tests with an engine built with sanitizers. With SMOKE=1 only tests of the engine, on the
# plain instruction set, built without optimisation. ThreadSanitizer does not know the threads of
# PyTorch's OpenMP: it runs the tests with threads that the engine starts.
small_build := $(if $(SMOKE),-small)
plain_build := $(if $(SMOKE),-C cmake.define.MEMORYCELL_PLAIN=ON)
run_sanitized := -m pytest -q -p no:cacheprovider -m "not data"
sanitize: $(INSTALLED)
	$(call other_environment,sanitize$(small_build))
	build/sanitize$(small_build)/bin/python $(install_again) -C cmake.define.MEMORYCELL_SANITIZE=address,undefined $(plain_build) -C build-dir=build/sanitize$(small_build)-cmake .
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1 \
	  build/sanitize$(small_build)/bin/python $(run_sanitized) $(if $(SMOKE),tests/parity/test_native.py tests/parity/test_native_steps.py tests/parity/test_native_selection.py tests/parity/test_uneven_shares.py,tests/parity) -k "not forced$(if $(SMOKE), and not threads)"

sanitize-threads: $(INSTALLED)
	$(call other_environment,sanitize-threads$(small_build))
	build/sanitize-threads$(small_build)/bin/python $(install_again) -C cmake.define.MEMORYCELL_SANITIZE=thread $(plain_build) -C build-dir=build/sanitize-threads$(small_build)-cmake .
	LD_PRELOAD="$$(g++ -print-file-name=libtsan.so) $$(g++ -print-file-name=libstdc++.so)" TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1" \
	  build/sanitize-threads$(small_build)/bin/python $(run_sanitized) tests/parity/test_threads.py -k own

without_engine := tests/parity/test_layer.py tests/parity/test_layer_as_torch.py tests/parity/test_cells.py tests/streaming/test_stream.py tests/exchange tests/test_proof.py
no-compiler: $(INSTALLED)
	$(call other_environment,no-compiler)
	CXX=/bin/false build/no-compiler/bin/python $(install_again) -C build-dir=build/no-compiler-cmake . 2>/dev/null
	build/no-compiler/bin/python -c "from memorycell.ops import binding; assert binding.engine is None; print(binding.missing)"
	build/no-compiler/bin/python -m pytest $(without_engine) -q -p no:cacheprovider -n 2

# Damaged models, states, spill folders and inputs, on all cores; failing inputs go to build/fuzz/.
MINUTES ?= 10
fuzz: $(INSTALLED)
	$(BIN)/python tests/fuzz/fuzz.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(wildcard csrc/*.hpp csrc/*.cpp)

# Zensical, the theme's successor, does not check images and files yet: so mkdocs, without its notice
# that the theme is maintained until May 2027.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(wildcard csrc/*.hpp csrc/*.cpp)

clean:
	rm -rf build dist demo .venv
