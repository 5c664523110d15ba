# Every target sets up what it needs; a machine needs a Python of SUPPORTED and make, nothing else.
SUPPORTED := 3.13 3.12 3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
YEAR_AGO = $(shell $(BIN)/python -c "import datetime; print(datetime.date.today() - datetime.timedelta(days=365))")
SIXTY_DAYS_AGO = $(shell $(BIN)/python -c "import datetime; print(datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=59))")
SYMBOLS := AAPL,MSFT,NVDA,AMZN,GOOGL,META,TSLA,BRK.B,JPM,V,UNH,XOM,JNJ,PG,HD,MA,CVX,KO,PEP,COST,WMT,DIS,CSCO,INTC,PLTR

.PHONY: run test smoke lint ui bench clean

run: $(READY) ## set everything up, settle 25 symbols x 1 year and 12 markets x 60 days from the sandbox, say where the data is
	$(BIN)/copilot-quant backfill equities --symbols $(SYMBOLS) --start $(YEAR_AGO)
	$(BIN)/copilot-quant backfill markets --limit 6 --start $(SIXTY_DAYS_AGO)
	$(BIN)/copilot-quant status

test: $(READY) ## set everything up, run all tests in random order (SEED=... repeats one), one more at once than cores
	$(BIN)/python -m pytest -n 3 --dist worksteal $(if $(SEED),-p randomly --randomly-seed=$(SEED))

smoke: $(READY) ## the command and the quick claims, on whatever Python made VENV
	$(BIN)/copilot-quant --version
	$(BIN)/copilot-quant backfill equities --home $(VENV)/smoke --symbols AAPL,BRK.B --start $(SIXTY_DAYS_AGO)
	$(BIN)/python -m pytest -n 2 copilot_quant_pipeline_tests/grid copilot_quant_pipeline_tests/equities/test_chart.py \
		copilot_quant_pipeline_tests/warehouse/test_settle.py copilot_quant_pipeline_tests/test_settings.py \
		copilot_quant_pipeline_tests/ledger/test_oracle.py copilot_quant_pipeline_tests/test_answers.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: $(READY) ## open Dagit on what is stored
	$(BIN)/copilot-quant ui

bench: $(READY) ## print the tables of benchmarks/
	$(BIN)/python -m benchmarks.grid
	$(BIN)/python -m benchmarks.markets

clean:
	rm -rf $(VENV) .venv-* data build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The newest that is there and can make a virtual environment; a name alone may be a shim that leads nowhere.
USABLE = import ensurepip, sys, venv; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])
FOUND = $(shell for python in $(SUPPORTED:%=python%) python3 python; do \
	$$python -c '$(USABLE)' $(SUPPORTED) >/dev/null 2>&1 && echo $$python && break; done)
PYTHON ?= $(FOUND)

$(READY): setup.py pyproject.toml constraints.txt
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { echo "No Python of $(SUPPORTED) with venv was found: install one\
 (Debian: apt install python3 python3-venv), or name it with make PYTHON=/path/to/python." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@
