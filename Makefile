# `make demo` and `make test` do all set-up themselves; the second run starts in seconds.
#
#   PYTHON=python3.12             another interpreter (3.11 to 3.13)
#   PIP_FLAGS="..."               options for pip install
#   PYTEST_FLAGS="-k timeline"    options for pytest
#   RELEASE_FLAGS="--final"       options for release/check.py

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS ?=
PYTEST_FLAGS ?=
RELEASE_FLAGS ?=
# two processes, each with one torch thread: with two threads each they would slow each other down
PYTEST = OMP_NUM_THREADS=1 $(PYTEST_PYTHON) -m pytest --numprocesses 2 -m "$(MARKED)" $(PYTEST_FLAGS)
PYTEST_PYTHON = $(BIN)/python

# The oldest napari that works: an environment over the usual one, which has only these packages of its own.
OLDEST_NAPARI := $(VENV)/oldest-napari
OLDEST_PINS := napari==0.8.0 vispy==0.16.2
WINDOW_TESTS = $$(grep -l make_napari_viewer tests/test_*.py)

# System packages that Qt and a virtual display need on Debian and Ubuntu.
SYSTEM_PACKAGES := xvfb xauth \
  libxcb-icccm4 libxcb-keysyms1 libxcb-cursor0 libxcb-image0 libxcb-render-util0 libxcb-xinerama0 \
  libxcb-shape0 libxcb-randr0 libxcb-sync1 libxcb-xfixes0 libxcb-xkb1 libx11-xcb1 libxkbcommon-x11-0 \
  libegl1 libgl1 libgl1-mesa-dri libdbus-1-3 libglib2.0-0 libfontconfig1 fonts-dejavu-core

# Shell: succeeds if a window can be shown.
HAS_DISPLAY := [ "$$(uname)" = Darwin ] || [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ]
XVFB := xvfb-run -a -s "-screen 0 1600x1000x24"

# Shell function: installs Debian packages if it has the rights, else prints the command and fails.
APT_INSTALL := apt_install() { \
    if [ "$$(id -u)" = 0 ]; then sudo=; \
    elif sudo -n true 2>/dev/null; then sudo="sudo -n"; \
    else \
      echo "These system packages are missing, and their installation needs root. Run:"; \
      echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends $$*"; \
      return 1; \
    fi; \
    echo "Installing system packages: $$*"; \
    $$sudo apt-get update -qq || true; \
    $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$$@" >/dev/null || { \
      echo "The installation failed. Run:"; \
      echo "  apt-get update && apt-get install -y --no-install-recommends $$*"; \
      return 1; \
    }; \
  }

# Shell function: prints the Python interpreter for the environment.
FIND_PYTHON := find_python() { \
    for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
      if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
        echo "$$candidate"; return 0; \
      fi; \
    done; \
    return 1; \
  }

.PHONY: help demo test test-slow test-napari-0.8 lint docs setup build release-check clean

help:
	@echo "make demo       set up, then segment the sample surgical clip in napari (without a display: into demo-output/)"
	@echo "make test       set up, then run the tests, also in a real viewer: about a quarter of an hour on two cores"
	@echo "make test-slow  the few tests that take longer than ten seconds each"
	@echo "make test-napari-0.8   the tests of the window with napari 0.8, the oldest that works"
	@echo "make lint       ruff and mypy"
	@echo "make docs       the documentation as a site, into site/; every link is checked"
	@echo "make build      wheel and sdist into dist/"
	@echo "make release-check   all that a release needs: the same build twice, every Python here, licences, SBOM; into dist/"
	@echo "make clean      remove all files made by these commands, also the environment"

demo: setup
	@if $(HAS_DISPLAY); then $(BIN)/surgicalsam demo; \
	else $(XVFB) $(BIN)/surgicalsam demo --output demo-output; fi

test: MARKED = not slow
test-slow: MARKED = slow

test test-slow: setup
	@if $(HAS_DISPLAY); then $(PYTEST); else $(XVFB) env $(PYTEST); fi

test-napari-0.8: MARKED = not slow
test-napari-0.8: PYTEST_PYTHON = $(OLDEST_NAPARI)/bin/python
test-napari-0.8: setup $(OLDEST_NAPARI)/.packages
	@if $(HAS_DISPLAY); then $(PYTEST) $(WINDOW_TESTS); else $(XVFB) env $(PYTEST) $(WINDOW_TESTS); fi

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Not --quiet, which would also hide warnings from --strict. The variable silences a note on the next version of MkDocs.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "to read it: $(BIN)/python -m http.server --bind localhost --directory site, then http://localhost:8000"

build: setup
	$(BIN)/python -m build --no-isolation

release-check: setup $(VENV)/.release
	$(BIN)/python release/check.py $(RELEASE_FLAGS)

clean:
	rm -rf $(VENV) build dist site .cache demo-output .pytest_cache .mypy_cache .ruff_cache surgicalsam_napari/napari.yaml

setup: $(VENV)/.packages surgicalsam_napari/napari.yaml

$(VENV)/.system: Makefile
	@mkdir -p $(VENV)
	@$(APT_INSTALL); \
	missing=; \
	if command -v dpkg-query >/dev/null; then \
	  for package in $(SYSTEM_PACKAGES); do \
	    dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q "ok installed" || missing="$$missing $$package"; \
	  done; \
	elif [ "$$(uname)" != Darwin ] && ! command -v xvfb-run >/dev/null; then \
	  echo "This is not Debian. Without a display, install xvfb-run and Qt's xcb libraries with your package manager."; \
	fi; \
	if [ -z "$$missing" ] || apt_install $$missing; then touch $@; else echo "Continuing without them."; fi

$(BIN)/python: | $(VENV)/.system
	@$(APT_INSTALL); $(FIND_PYTHON); \
	python=$$(find_python) || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed but was not found. Install one, or run: make PYTHON=/path/to/python"; \
	  exit 1; \
	}; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null && command -v apt-get >/dev/null; then \
	  apt_install "$$("$$python" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')" || exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV) || { rm -rf $(BIN); exit 1; }

$(VENV)/.packages: pyproject.toml constraints.txt hatch_build.py | $(BIN)/python
	@echo "Installing Python packages into $(VENV): takes minutes the first time"
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e ".[all,dev]"
	@touch $@

$(OLDEST_NAPARI)/.packages: $(VENV)/.packages Makefile
	@rm -rf $(OLDEST_NAPARI)
	$(BIN)/python -m venv $(OLDEST_NAPARI)
	@$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
	  > "$$($(OLDEST_NAPARI)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/usual.pth"
	$(OLDEST_NAPARI)/bin/python -m pip install --disable-pip-version-check --quiet $(PIP_FLAGS) $(OLDEST_PINS)
	@touch $@

$(VENV)/.release: $(VENV)/.packages
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_FLAGS) -c constraints.txt -e ".[release]"
	@touch $@

# The installed package's copy of the plugin manifest.
surgicalsam_napari/napari.yaml: napari.yaml
	cp napari.yaml $@
