# Two commands on a fresh machine: `make demo` shows what U-Net Live does, `make test` proves that it does it.
# Both set up everything first (.ci/setup: python3 3.11 to 3.13 on the PATH is all they expect).

BIN := .venv/bin
VIRTUAL_DISPLAY := xvfb-run -a -s "-screen 0 1920x1080x24"

.PHONY: demo test pictures setup format clean
.NOTPARALLEL:

demo: setup ## napari with the sample and the dock; without a display, the same session plays by itself
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname)" = Darwin ]; then \
	    $(BIN)/unet-live demo; \
	else \
	    $(VIRTUAL_DISPLAY) $(BIN)/unet-live demo --tour tour && echo "Screenshots and tour.json are in tour/."; \
	fi

test: setup ## style, types, floors, manifest, behaviour
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/npe2 validate napari-unet-live
	$(BIN)/pytest

pictures: setup ## the screenshots of the documentation, made by the tour
	$(VIRTUAL_DISPLAY) $(BIN)/unet-live demo --tour tour
	mkdir -p docs/pictures && cp tour/*_learnt.png docs/pictures/first-session.png

setup: ## .venv with everything in it
	@bash .ci/setup

format: setup ## put the code in the form that `make test` asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## forget everything that was set up or computed
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist tour
