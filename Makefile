# Every target sets up what it needs; a machine needs Python 3.11 and make, nothing else.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
YEAR_AGO = $(shell $(BIN)/python -c "import datetime; print(datetime.date.today() - datetime.timedelta(days=365))")
SIXTY_DAYS_AGO = $(shell $(BIN)/python -c "import datetime; print(datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=59))")
SYMBOLS := AAPL,MSFT,NVDA,AMZN,GOOGL,META,TSLA,BRK.B,JPM,V,UNH,XOM,JNJ,PG,HD,MA,CVX,KO,PEP,COST,WMT,DIS,CSCO,INTC,PLTR

.PHONY: run test lint ui bench clean

run: $(READY) ## set everything up, settle 25 symbols x 1 year and 12 markets x 60 days from the sandbox, say where the data is
	$(BIN)/copilot-quant backfill equities --symbols $(SYMBOLS) --start $(YEAR_AGO)
	$(BIN)/copilot-quant backfill markets --limit 6 --start $(SIXTY_DAYS_AGO)
	$(BIN)/copilot-quant status

test: $(READY) ## set everything up, run all tests in random order (SEED=... repeats one), one more at once than cores
	$(BIN)/python -m pytest -n 3 --dist worksteal $(if $(SEED),-p randomly --randomly-seed=$(SEED))

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
	rm -rf $(VENV) data build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): setup.py pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@
