# SPDX-License-Identifier: MIT
#
# Rotor's front door. Meson and Ninja do the work in build/; this file only names what people want.
# `make help` lists the targets. Variables you may set:
#   CC, CFLAGS, LDFLAGS   as usual; a change sets build/ up again
#   V=1                   show every compiler command
#   WERROR=true           warnings are errors (the default where CI is set)
#   PREFIX, DESTDIR       where `make install` puts things
#   MESON_FLAGS           more options for `meson setup`, such as -Dpcre2=disabled
#   ONLY=name,name        run only these suites of a tier
#   SECONDS_EACH=60       how long `make fuzz` spends on each target
#   NO_BOOTSTRAP=1        do not look for missing packages

PREFIX       ?= /usr/local
JOBS         ?= $(shell nproc 2>/dev/null || echo 2)
WERROR       ?= $(if $(CI),true,false)
SECONDS_EACH ?= 60
# Large public test data, when it lies beside this folder; tests that need it say "no data" otherwise.
ROTOR_TEST_DATA ?= $(abspath $(wildcard ../shared/data))
export JOBS V WERROR ONLY ROTOR_TEST_DATA

BOOTSTRAP = $(if $(NO_BOOTSTRAP),@:,@tools/bootstrap)
# Optional features that cannot be installed are tests skipped for a person, a failure for CI.
ALL_MAY_FAIL = $(if $(CI),,|| echo "make: going on without the optional features")
NINJA     = ninja -C build -j$(JOBS) $(if $(V),-v)
FLAGS     = $(if $(filter default,$(origin CC)),,$(CC))|$(CFLAGS)|$(LDFLAGS)|$(WERROR)|$(MESON_FLAGS)
SOURCES   = $$(git ls-files '*.c' '*.h' ':!:*_tables.c' ':!:*_tables.h' ':!:src/dev/gpu/kernels/*.h')
RUN       = @tools/run_tests.py

.DEFAULT_GOAL := program
.PHONY: program demo check check-all proof bench bench-kernels fuzz soak format lint site install packages wasm windows windows-libs arm fresh clean help core configure mutants reproducible

program: core configure ## build build/rotor, build/rotor-extract and build/librotor.so (also plain `make`)
	@$(NINJA) rotor rotor-extract library

demo: program ## tell a story with the built-in model
	build/rotor run --chat -p "Let me hear a story with a dog." --temp 0.5 --seed 1

check: ## run the tests (about 13 minutes on two cores)
	$(BOOTSTRAP) test
	$(BOOTSTRAP) all $(ALL_MAY_FAIL)
	@$(MAKE) --no-print-directory configure
	$(RUN) check

check-all: ## run what check leaves out: Clang, sanitizers, CPU masks, aarch64, valgrind
	$(BOOTSTRAP) test
	$(BOOTSTRAP) all $(ALL_MAY_FAIL)
	@$(MAKE) --no-print-directory configure
	$(RUN) all

proof: core configure ## measure what Rotor says of itself, into build/proof/index.html (some 15 minutes; PROOF="--quick")
	@$(NINJA)
	tools/proof.py $(PROOF)

bench: program ## measure speed (BENCH="MODEL -p 512 -n 128")
	build/rotor bench $(BENCH)

bench-kernels: core configure ## measure every kernel alone
	@$(NINJA) tests/kern/checkern
	build/tests/kern/checkern --bench

fuzz: ## feed the parsers mutated input for SECONDS_EACH each
	$(BOOTSTRAP) test
	$(RUN) fuzz --seconds $(SECONDS_EACH)

soak: ## the long runs, by hand: 10,000 tokens on each device, a server under load, ten million executions of each fuzz target
	$(BOOTSTRAP) test
	@$(MAKE) --no-print-directory configure
	$(RUN) soak

mutants: ## flip thirty operators, one at a time: do the tests notice? (ten minutes)
	tools/mutants.py

reproducible: ## build the packages twice, as differently as possible, and compare the bytes
	tools/reproducible.py

format: ## lay out the C sources by .clang-format
	clang-format -i $(SOURCES)

lint: ## check layout, layers and documentation
	clang-format --dry-run -Werror $(SOURCES)
	python3 tools/check_layers.py
	python3 tools/check_docs.py

site: ## the documentation as pages for a browser: build/site/index.html
	@tools/make_site.py

install: core configure ## install into DESTDIR/PREFIX (default /usr/local)
	@meson configure build -Dprefix=$(abspath $(PREFIX))
	@$(NINJA)
	DESTDIR=$(DESTDIR) meson install -C build --no-rebuild

packages: core configure ## an archive that runs from any folder, a Debian package, SHA256SUMS: build/packages
	@$(NINJA)
	packaging/make_packages.py all

wasm: ## the core as WebAssembly, with a page that runs the built-in model: build-wasm (needs clang, lld, wasi-libc)
	$(BOOTSTRAP) test
	@[ -f build-wasm/build.ninja ] || meson setup build-wasm --cross-file tools/cross/wasm.txt -Dwerror=$(WERROR)
	@ninja -C build-wasm -j$(JOBS) $(if $(V),-v)
	@wc -c build-wasm/packaging/wasm/rotor.wasm build-wasm/packaging/wasm/model.gguf
	@echo "to see the page: python3 -m http.server -b 127.0.0.1 -d build-wasm/packaging/wasm 8000"

windows: ## the program for Windows on x86-64 (needs gcc-mingw-w64-x86-64; all of it with windows-libs)
	@if [ -f build-windows-libs/cross.txt ]; then \
	    [ -f build-windows-full/build.ninja ] || meson setup build-windows-full --cross-file tools/cross/windows.txt \
	        --cross-file build-windows-libs/cross.txt -Dwerror=$(WERROR) || exit 1; \
	    ninja -C build-windows-full -j$(JOBS) $(if $(V),-v) rotor.exe && wc -c build-windows-full/rotor.exe; \
	else \
	    [ -f build-windows/build.ninja ] || meson setup build-windows --cross-file tools/cross/windows.txt -Dwerror=$(WERROR) || exit 1; \
	    ninja -C build-windows -j$(JOBS) $(if $(V),-v) && wc -c build-windows/src/lite/rotor.exe && \
	    echo "only run, tokenize, info and version: make windows-libs fetches what the other verbs need"; \
	fi

windows-libs: ## fetch and build the libraries of make windows: build-windows-libs (needs the network, dpkg-dev, tcl)
	@JOBS=$(JOBS) tools/windows_libs.py

arm: ## the program for 64-bit Arm, with Debian's libraries, fetched once: build-arm (needs Debian's cross compiler)
	$(BOOTSTRAP) test
	@tools/arm_sysroot.py
	@[ -f build-arm/build.ninja ] || meson setup build-arm --cross-file build-arm-sysroot/cross.txt -Dtests=disabled -Dwerror=$(WERROR)
	@ninja -C build-arm -j$(JOBS) $(if $(V),-v) rotor rotor-extract
	@qemu-aarch64 -L build-arm-sysroot/root build-arm/rotor version

fresh: ## from a bare Debian 12 to the first story, timed (needs root and debootstrap)
	tools/fresh_root.py

clean: ## remove every build folder
	rm -rf build build-clang build-asan build-tsan build-aarch64 build-fuzz build-wasm build-windows build-windows-full build-windows-libs build-arm build-arm-check build-arm-sysroot

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

core:
	$(BOOTSTRAP) core

# Sets build/ up once, and again when the compiler or the flags have changed since.
configure:
	@flags='$(FLAGS)'; \
	if [ -f build/build.ninja ] && [ "$$flags" = "$$(cat build/.flags 2>/dev/null || echo '|||false|')" ]; \
	then exit 0; fi; \
	rm -rf build && meson setup build -Dwerror=$(WERROR) $(MESON_FLAGS) && echo "$$flags" >build/.flags
