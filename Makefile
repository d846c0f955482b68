# Lucid's build. `make help` lists the targets.
.DEFAULT_GOAL := all
BUILD  ?= build
BIN    ?= bin
PREFIX ?= /usr/local
ifeq ($(origin CC),default)
CC  := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
ARCH   ?= native#     the machine's own instructions; a package sets a portable level: ARCH=x86-64-v3
GEMM   ?= vector#     vector | loop: matrix products in plain C, for comparison and other CPUs
SEED   ?= 1
comma  := ,
Q      := $(if $(V),,@)#   make V=1 shows the commands

# ---- packages ------------------------------------------------------------------------------------
PACKAGES := gcc g++ make pkg-config luajit libluajit-5.1-dev libjpeg-dev libspng-dev libstb-dev \
  libcjson-dev libssl-dev libutf8proc-dev libsentencepiece-dev libedit-dev libopenmpi-dev openmpi-bin \
  libcurl4-openssl-dev libmicrohttpd-dev
TEST_PACKAGES := lua-busted lua-check clang-format
BROWSER := chromium
FUZZ_PACKAGES := clang libclang-rt-dev
ANALYSERS := valgrind clang-tidy cppcheck

define install_missing
	@missing=; for p in $(1); do \
	   dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	 if [ -z "$$missing" ]; then echo 'deps: everything is installed'; exit 0; fi; \
	 echo "deps: missing:$$missing"; \
	 if ! command -v apt-get >/dev/null; then \
	   echo 'deps: this system has no apt-get; install what these packages hold, then run make again' >&2; exit 1; fi; \
	 sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	 $$sudo apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -q \
	   --no-install-recommends $$missing >/dev/null && echo 'deps: done'
endef

## deps: install the Debian or Ubuntu packages that are missing
deps:
	$(call install_missing,$(PACKAGES) $(TEST_PACKAGES))

# ---- what this machine has -----------------------------------------------------------------------
# Each library turns one feature on; without it the rest still builds. The answers are kept.
# With deps among the goals the answers come from a second make, after the installation.
NVCC ?= $(or $(shell command -v nvcc 2>/dev/null),$(wildcard /usr/local/cuda/bin/nvcc))
MPI_CFLAGS := $(patsubst -I%,-isystem %,$(shell pkg-config --cflags ompi-c 2>/dev/null))
MPI_LIBS   := $(shell pkg-config --libs ompi-c 2>/dev/null)
$(BUILD)/features.mk: Makefile
	@mkdir -p $(@D)
	@try() { printf '#include <stdio.h>\n#include <%s>\nint main(void) { return 0; }\n' "$$2" | $$3 - -o /dev/null $$4 \
	   2>/dev/null && echo "HAVE_$$1 := 1" || echo "HAVE_$$1 :="; }; \
	 { try JPEG jpeglib.h '$(CC) -x c' -ljpeg; try SPNG spng.h '$(CC) -x c' -lspng; \
	   try STB stb/stb_image.h '$(CC) -x c'; try CJSON cjson/cJSON.h '$(CC) -x c' -lcjson; \
	   try CRYPTO openssl/evp.h '$(CC) -x c' -lcrypto; try UTF8PROC utf8proc.h '$(CC) -x c' -lutf8proc; \
	   try EDIT editline/readline.h '$(CC) -x c' -ledit; \
	   try SPM sentencepiece_processor.h '$(CXX) -std=c++17 -x c++' '-lsentencepiece -lsentencepiece_train'; \
	   try CURL curl/curl.h '$(CC) -x c' -lcurl; try MHTTP microhttpd.h '$(CC) -x c' -lmicrohttpd; \
	   try MPI mpi.h '$(CC) $(MPI_CFLAGS) -x c' '$(MPI_LIBS)'; \
   version=$$([ -z "$(NVCC)" ] || "$(NVCC)" --version | sed -n 's/.*release \([0-9]*\)\.\([0-9]*\).*/\1.\2/p'); \
   [ "$${version%.*}" -ge 12 ] 2>/dev/null && echo "HAVE_CUDA := $$version" || { echo 'HAVE_CUDA :='; \
   echo "cuda: $${version:+nvcc is of CUDA $$version, }12 or newer is needed; built without it" >&2; }; \
   gpu=$$(nvidia-smi -L 2>/dev/null | head -1); echo "HAVE_GPU := $${gpu:+yes}"; \
   [ -n "$$gpu" ] || [ -z "$$version" ] || echo 'cuda: there is no GPU here; make cuda builds the plug-in all the same' >&2; } > $@
ifeq ($(filter deps deps-browser deps-fuzz deps-analysers gpu-check gpu-bench uninstall package-check clean help,$(MAKECMDGOALS)),)
-include $(BUILD)/features.mk
endif

FEATURES := $(foreach f,JPEG SPNG STB CJSON CRYPTO UTF8PROC EDIT SPM MPI CURL MHTTP,$(if $(HAVE_$f),-DLC_HAVE_$f)) \
            $(if $(HAVE_CUDA),-DLC_HAVE_CUDA='"$(HAVE_CUDA)"')
LIBS := $(if $(HAVE_JPEG),-ljpeg) $(if $(HAVE_SPNG),-lspng) \
        $(if $(HAVE_CJSON),-lcjson) $(if $(HAVE_CRYPTO),-lcrypto) $(if $(HAVE_UTF8PROC),-lutf8proc) -lm -ldl
LUA_CFLAGS := $(shell pkg-config --cflags luajit 2>/dev/null)
LUA_LIBS   := $(shell pkg-config --libs luajit 2>/dev/null)

# ---- flags ------------------------------------------------------------------------------------------
OPENMP ?= -fopenmp#  empty: one thread, and no library for it
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wvla -Werror $(if $(strip $(OPENMP)),,-Wno-unknown-pragmas -Wno-unused-variable)
CWARN := $(WARN) -Wstrict-prototypes -Wmissing-prototypes
CFLAGS ?= -O3 -g
# What a fault in memory meets before it can do anything; a sanitizer sees more without it.
HARDENING ?= -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection
# -ffp-contract=off: a vector body and its remainder must round alike; fused products are written out.
# The prefix map: what is built names no folder of the machine that built it.
COMMON = $(CFLAGS) -march=$(strip $(ARCH)) -ffile-prefix-map=$(CURDIR)=. -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno \
         -fno-trapping-math $(strip $(OPENMP)) -Inative -MMD -MP $(FEATURES) $(if $(SANITIZE),$(SANITIZE),$(HARDENING))
# A bundle brings its libraries with it. RPATH holds for what those load, too, which RUNPATH does not.
BESIDE := -Wl,--disable-new-dtags,-rpath,'$$ORIGIN/../lib'
# A level (x86-64-v3) is noted, so that a CPU without it is refused in one line.
LEVEL := $(filter x86-64-v%,$(ARCH))
LDFLAGS += $(strip $(OPENMP)) -Wl,--as-needed -Wl,-z,relro,-z,now,-z,noexecstack $(if $(LEVEL),-Wl$(comma)-z$(comma)$(LEVEL)) $(if $(BUNDLED),$(BESIDE)) $(SANITIZE)

# ---- files --------------------------------------------------------------------------------------------
SOURCES := $(wildcard native/base/*.c native/tensor/*.c native/cpu/*.c native/ops/*.c native/io/*.c \
             native/image/*.c native/nn/*.c native/models/*.c native/train/*.c native/text/*.c native/dist/comm.c native/net/net.c native/net/listen.c)
OBJECTS := $(SOURCES:native/%.c=$(BUILD)/obj/%.o)
MPI     := $(BUILD)/obj/dist/mpi.o
TEXT    := $(BUILD)/obj/text/sentencepiece.o
NET     := $(addprefix $(BUILD)/obj/net/,client.o key.o)
SERVER  := $(addprefix $(BUILD)/obj/net/,server.o exchange.o gate.o key.o)
DECODER := $(patsubst %,$(BUILD)/obj/%.o,decoder/main decoder/confine image/decode image/jpeg image/png image/pnm image/stb base/error base/memory)
HOST    := $(patsubst native/%.c,$(BUILD)/obj/%.o,$(wildcard native/host/*.c))

# Goals beside deps wait for it: this make hands them to another one when the packages are there.
AFTER_DEPS := $(if $(filter deps,$(MAKECMDGOALS)),$(filter-out deps,$(MAKECMDGOALS)))

## all: build bin/lucid and build/liblucid.so (the default)
all: $(if $(AFTER_DEPS),,$(BIN)/lucid $(BUILD)/liblucid.so $(BUILD)/lucid-decode $(if $(HAVE_SPM),$(BUILD)/liblucid_text.so) \
     $(if $(HAVE_MPI),$(BUILD)/liblucid_mpi.so) $(if $(HAVE_CURL),$(BUILD)/liblucid_net.so) \
     $(if $(HAVE_MHTTP),$(BUILD)/liblucid_server.so) \
     $(if $(and $(HAVE_CUDA),$(HAVE_GPU),$(if $(SANITIZE),,plain)),$(BUILD)/liblucid_cuda.so))

$(BUILD)/obj/%.o: native/%.c $(BUILD)/features.mk
	@mkdir -p $(@D)
	@echo '  cc   $<'
	$(Q)$(CC) -std=c11 $(COMMON) $(CWARN) -c $< -o $@

$(BUILD)/obj/host/%.o: COMMON += $(LUA_CFLAGS)
$(MPI): COMMON += $(MPI_CFLAGS)
# stb_image_write shifts negative numbers, which every compiler here defines.
$(BUILD)/obj/image/stb.o: COMMON += -fno-sanitize=shift

# The choice of GEMM is a file's name, so that another choice compiles its users again.
GEMM_CHOICE := $(BUILD)/gemm-$(strip $(GEMM))
$(GEMM_CHOICE):
	@mkdir -p $(@D)
	@rm -f $(BUILD)/gemm-*
	@touch $@
# All kernels: few rows have to go the same way as many.
GEMM_USERS := $(filter $(BUILD)/obj/cpu/%,$(OBJECTS)) $(BUILD)/obj/base/features.o
$(GEMM_USERS): $(GEMM_CHOICE)
$(GEMM_USERS): COMMON += $(if $(filter loop,$(GEMM)),-DLC_GEMM_LOOP)

$(BUILD)/obj/%.o: native/%.cc $(BUILD)/features.mk
	@mkdir -p $(@D)
	@echo '  c++  $<'
	$(Q)$(CXX) -std=c++17 $(COMMON) $(WARN) -c $< -o $@

# nodelete: when a plain luajit ends it closes the library; OpenMP's threads would wake in unmapped code
$(BUILD)/liblucid.so: $(OBJECTS)
	@echo '  link $@'
	$(Q)$(CC) -shared -Wl,-z,nodelete $(LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/liblucid_text.so: $(TEXT)
	@echo '  link $@'
	$(Q)$(CXX) -shared $(LDFLAGS) -o $@ $^ -lsentencepiece -lsentencepiece_train

# ---- the CUDA plug-in, and the same sources for a device that the CPU plays (tests alone) ------------------
# It takes minutes to compile, so all builds it where there is a GPU.
NVCC12 ?= $(lastword $(sort $(wildcard /usr/local/cuda-12*/bin/nvcc)))#  the oldest CUDA that serves is compiled with, too
CUDA_ARCH ?= 80 86 89 90#   compute capabilities; newer chips compile the last one's PTX
CUDA_HOST := $(addprefix $(BUILD)/obj/,$(addsuffix .o,$(basename $(patsubst native/%,%,$(wildcard native/cuda/*.c native/cuda/*.cc)))))
CUDA      := $(CUDA_HOST) $(patsubst native/%.cu,$(BUILD)/obj/%.o,$(wildcard native/cuda/*.cu))
# The emulation changes stacks by hand, which it can on this machine alone.
EMULATED  := $(if $(filter x86_64,$(shell uname -m)),$(patsubst $(BUILD)/obj/cuda/%,$(BUILD)/obj/emulated/%,$(CUDA)))
NVCC_FLAGS = -std=c++17 -O3 -Inative -DLC_KERNELS_HASH='"$(KERNELS_HASH)"' \
             -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra -Werror all-warnings -Xptxas -v \
             $(foreach a,$(CUDA_ARCH),-gencode arch=compute_$a,code=sm_$a) \
             -gencode arch=compute_$(lastword $(CUDA_ARCH)),code=compute_$(lastword $(CUDA_ARCH))
# The core and a plug-in that disagree about these must not meet.
KERNELS_HASH := $(shell cat native/lucid.h native/kernels.h native/cuda/plugin.h | sha256sum | cut -c1-16)
$(CUDA_HOST) $(EMULATED) $(BUILD)/obj/tensor/device.o: COMMON += -DLC_KERNELS_HASH='"$(KERNELS_HASH)"'

CUDA_TARGETS := $(BUILD)/cuda-$(subst $(eval ) ,-,$(strip $(CUDA_ARCH)))
$(CUDA_TARGETS):
	@mkdir -p $(@D)
	@rm -f $(BUILD)/cuda-*
	@touch $@

# What ptxas says of registers and spills stays beside the object: tests/registers.lua reads it.
$(BUILD)/obj/cuda/%.o: native/cuda/%.cu $(BUILD)/features.mk $(CUDA_TARGETS)
	@mkdir -p $(@D)
	@echo '  nvcc $<'
	$(Q)$(NVCC) $(NVCC_FLAGS) -MMD -MF $(@:.o=.d) -c $< -o $@ > $(@:.o=.ptxas) 2>&1 || { grep -v "^ptxas info\|bytes stack frame" $(@:.o=.ptxas); exit 1; }

# The C++ library is its own: a program that has loaded an older one can open it, too.
## cuda: the CUDA plug-in for CUDA_ARCH, which all builds where there is a GPU, and a look at its registers
cuda: all $(if $(HAVE_CUDA),$(BUILD)/liblucid_cuda.so)
	$(if $(HAVE_CUDA),@BUILD=$(BUILD) $(BIN)/lucid tests/registers.lua)
	@$(if $(NVCC12),$(MAKE) --no-print-directory NVCC='$(NVCC12)' BUILD=$(BUILD)/cuda12 NVCC12= CUDA_ARCH=80 $(BUILD)/cuda12/liblucid_cuda.so,$(if \
	  $(filter 12.%,$(HAVE_CUDA)),:,echo 'cuda: nothing was compiled with CUDA 12, of which there is no nvcc here (NVCC12= names one)'))

$(BUILD)/liblucid_cuda.so: $(CUDA) native/cuda/exports.map
	@echo '  link $@'
	$(Q)$(NVCC) -shared -cudart static -Xcompiler -static-libstdc++,-static-libgcc -Xlinker -Bsymbolic,--version-script=native/cuda/exports.map,-z,relro,-z,now,-z,noexecstack -o $@ $(CUDA)

$(BUILD)/obj/emulated/%.o: native/cuda/%.cu $(BUILD)/features.mk
	@mkdir -p $(@D)
	@echo '  c++  $< (emulated)'
	$(Q)$(CXX) -x c++ -std=c++17 $(COMMON) -Wall -Wextra -Werror -DLC_EMULATED -c $< -o $@
$(BUILD)/obj/emulated/%.o: native/cuda/%.c $(BUILD)/features.mk
	@mkdir -p $(@D)
	@echo '  cc   $< (emulated)'
	$(Q)$(CC) -std=c11 $(COMMON) $(CWARN) -DLC_EMULATED -c $< -o $@
$(BUILD)/obj/emulated/%.o: native/cuda/%.cc $(BUILD)/features.mk
	@mkdir -p $(@D)
	@echo '  c++  $< (emulated)'
	$(Q)$(CXX) -std=c++17 $(COMMON) $(WARN) -DLC_EMULATED -c $< -o $@

$(BUILD)/liblucid_cuda_emulated.so: $(EMULATED)
	@echo '  link $@'
	$(Q)$(CXX) -shared -Wl,-Bsymbolic $(LDFLAGS) -o $@ $^

# What the tests of products open instead of cuBLASLt, and the program that compares them with the CPU backend.
$(BUILD)/libcublaslt_recording.so: tests/gpu/cublaslt.cc native/cuda/cublas.h native/cuda/device.h
	@echo '  c++  $<'
	$(Q)$(CXX) -shared -std=c++17 $(COMMON) $(WARN) -DLC_EMULATED -o $@ $<
# The same in NCCL's place.
NCCL_RECORDING := $(if $(HAVE_MPI),$(BUILD)/libnccl_recording.so)
$(BUILD)/libnccl_recording.so: tests/gpu/nccl.cc native/cuda/nccl.h native/cuda/device.h native/cuda/plugin.h
	@echo '  c++  $<'
	$(Q)$(CXX) -shared -std=c++17 $(COMMON) $(WARN) $(MPI_CFLAGS) -DLC_EMULATED -o $@ $< $(MPI_LIBS)
$(BUILD)/test_gemm: tests/gpu/gemm.cc native/lucid.h native/kernels.h native/cuda/plugin.h $(filter $(BUILD)/obj/cpu/% $(BUILD)/obj/base/%,$(OBJECTS))
	@echo '  c++  $<'
	$(Q)$(CXX) -std=c++17 $(COMMON) $(WARN) -DLC_KERNELS_HASH='"$(KERNELS_HASH)"' -o $@ $(filter-out %.h,$^) $(LDFLAGS) $(LIBS)

$(BUILD)/liblucid_mpi.so: $(MPI)
	@echo '  link $@'
	$(Q)$(CC) -shared $(LDFLAGS) -o $@ $^ $(MPI_LIBS)

$(BUILD)/liblucid_net.so: $(NET)
	@echo '  link $@'
	$(Q)$(CC) -shared $(LDFLAGS) -o $@ $^ -lcurl

$(BUILD)/liblucid_server.so: $(SERVER)
	@echo '  link $@'
	$(Q)$(CC) -shared $(LDFLAGS) -o $@ $^ -lmicrohttpd -lpthread

# ---- CUDA kernels without a GPU: programs that emulate them (tests alone) ---------------------------
EMULATION := $(if $(EMULATED),$(addprefix $(BUILD)/emulation/,spans attention))
EMULATED_ATTENTION := $(filter %/spans.o $(BUILD)/obj/emulated/attention%,$(EMULATED))
EMULATION_FLAGS = -O2 -g -Inative -MMD -MP
## emulation: the programs that run CUDA kernels on the CPU
emulation: $(EMULATION)
$(BUILD)/emulation/test_%.o: tests/gpu/%.cc
	@mkdir -p $(@D)
	@echo '  c++  $<'
	$(Q)$(CXX) -std=c++17 $(EMULATION_FLAGS) $(WARN) -c $< -o $@
$(BUILD)/emulation/test_%.o: tests/gpu/%.c
	@mkdir -p $(@D)
	@echo '  cc   $<'
	$(Q)$(CC) -std=c11 $(EMULATION_FLAGS) $(CWARN) -c $< -o $@
$(BUILD)/emulation/core.a: $(OBJECTS)
	@rm -f $@
	$(Q)mkdir -p $(@D) && ar rcs $@ $^
$(BUILD)/emulation/spans: $(BUILD)/emulation/test_spans.o $(filter %/spans.o,$(EMULATED))
$(BUILD)/emulation/attention: $(BUILD)/emulation/test_attention.o $(EMULATED_ATTENTION)
$(EMULATION): %: $(BUILD)/emulation/core.a
	@echo '  link $@'
	$(Q)$(CXX) $(LDFLAGS) -o $@ $(filter %.o,$^) $< $(LIBS)
-include $(wildcard $(BUILD)/emulation/*.d)

# ---- fuzzers: hostile bytes under the address and the undefined-behaviour sanitizer (tests/fuzz/README.md) ----
LUA_FUZZERS := $(patsubst tests/fuzz/%_fuzz.lua,%,$(wildcard tests/fuzz/*_fuzz.lua))
FUZZERS := $(sort $(patsubst tests/fuzz/%_fuzz.c,%,$(wildcard tests/fuzz/*_fuzz.c)) $(LUA_FUZZERS))
FUZZING := BUILD=build-fuzz BIN=build-fuzz/bin CC=clang CXX=clang++ OPENMP= NVCC= CFLAGS='-O1 -g -fno-omit-frame-pointer -DLC_FUZZING -D__SANITIZE_ADDRESS__' \
           SANITIZE='-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined'
## fuzz: every fuzzer for a fixed number of inputs, as in CI (a minute; FUZZERS="json pickle" for some)
fuzz:
	@$(MAKE) --no-print-directory $(FUZZING) fuzzers
	@FUZZERS='$(FUZZERS)' tests/fuzz/run.sh build-fuzz short

## fuzz-long: every fuzzer for DURATION=600 seconds, one after another; what they learn stays in build-fuzz
fuzz-long:
	@$(MAKE) --no-print-directory $(FUZZING) fuzzers
	@FUZZERS='$(FUZZERS)' tests/fuzz/run.sh build-fuzz $(or $(DURATION),600)

fuzzers: $(FUZZERS:%=$(BUILD)/fuzz/%) $(BUILD)/liblucid.so $(BUILD)/liblucid_text.so
$(BUILD)/fuzz/%.o: tests/fuzz/%.c $(BUILD)/features.mk
	@mkdir -p $(@D)
	@echo '  cc   $<'
	$(Q)$(CC) -std=c11 $(COMMON) $(CWARN) $(LUA_CFLAGS) -c $< -o $@
# Of the core's objects a fuzzer takes those that it needs: the fewer there are, the faster it is.
$(BUILD)/fuzz/core.a: $(OBJECTS) $(TEXT) $(NET) $(SERVER)
	@rm -f $@
	$(Q)mkdir -p $(@D) && ar rcs $@ $(sort $^)
FUZZ_LIBS := $(if $(HAVE_SPM),-lsentencepiece -lsentencepiece_train) $(if $(HAVE_CURL),-lcurl) $(if $(HAVE_MHTTP),-lmicrohttpd) -lpthread
$(BUILD)/fuzz/%: $(BUILD)/fuzz/%_fuzz.o $(BUILD)/fuzz/balance.o $(BUILD)/fuzz/support.o $(BUILD)/fuzz/core.a
	@echo '  link $@'
	$(Q)$(CXX) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(FUZZ_LIBS) $(LIBS)
$(LUA_FUZZERS:%=$(BUILD)/fuzz/%): $(BUILD)/fuzz/lua.o $(BUILD)/fuzz/support.o
	@echo '  link $@'
	$(Q)$(CXX) $(LDFLAGS) -fsanitize=fuzzer -rdynamic -o $@ $^ $(LUA_LIBS) -lm -ldl
-include $(wildcard $(BUILD)/fuzz/*.d)

# What decodes pictures that are not trusted: a few files, since it is started for them.
$(BUILD)/lucid-decode: $(DECODER)
	@echo '  link $@'
	$(Q)$(CC) $(LDFLAGS) -pie -o $@ $^ $(LIBS)

$(BIN)/lucid: $(HOST)
	@mkdir -p $(@D)
	@echo '  link $@'
	$(Q)$(CC) $(LDFLAGS) -pie -rdynamic -o $@ $^ $(LUA_LIBS) $(if $(HAVE_EDIT),-ledit) -lm -ldl

-include $(OBJECTS:.o=.d) $(DECODER:.o=.d) $(HOST:.o=.d) $(TEXT:.o=.d) $(MPI:.o=.d) $(NET:.o=.d) $(SERVER:.o=.d) $(CUDA:.o=.d) $(EMULATED:.o=.d)

# ---- running ---------------------------------------------------------------------------------------------
ifneq ($(AFTER_DEPS),)
$(AFTER_DEPS): deps
	@+$(MAKE) --no-print-directory $@
else

OUT ?= runs/demo
## demo: the whole loop on the tiny world, with a report (make demo SEED=2 OUT=runs/two)
demo: all
	$(BIN)/lucid demo --seed $(SEED) --out $(OUT)

# The judge that the specs of the HTTP client talk to; without libmicrohttpd they are skipped.
$(BUILD)/judge_server: tests/support/judge_server.c $(BUILD)/features.mk
	@echo '  cc   $<'
	$(Q)$(CC) -std=gnu11 -O1 -g $(CWARN) $(SANITIZE) -o $@ $< -lmicrohttpd -lpthread

# What refuses memory and breaks the disk under a program (LD_PRELOAD); libgcc unwinds stacks.
$(BUILD)/faults.so: tests/crash/memory.c tests/crash/files.c $(BUILD)/features.mk
	@echo '  cc   $@'
	$(Q)$(CC) -std=gnu11 -O1 -g -shared -fPIC -fvisibility=hidden $(WARN) -o $@ $(filter %.c,$^) -ldl -lpthread

# What tries the things that the decoder of pictures may not do.
$(BUILD)/confined: tests/support/confined.c $(BUILD)/obj/decoder/confine.o
	@echo '  cc   $<'
	$(Q)$(CC) -std=c11 -O1 -g $(CWARN) -Inative $(SANITIZE) -o $@ $^

# A walk through the C API, for analysers and by itself; it needs all that this machine can have.
CAPI := $(if $(and $(HAVE_SPM),$(HAVE_CURL),$(HAVE_MHTTP),$(HAVE_SPNG),$(HAVE_STB)),$(BUILD)/capi)
$(BUILD)/capi: $(wildcard tests/capi/*.c tests/capi/*.h) native/lucid.h $(BUILD)/liblucid.so
	@echo '  cc   tests/capi'
	$(Q)$(CC) -std=c11 -O1 -g $(CWARN) -Inative $(SANITIZE) -Wl,-rpath,$(abspath $(BUILD)) -o $@ $(filter %.c,$^) $(BUILD)/liblucid.so

TEST_TOOLS := $(if $(HAVE_MHTTP),$(BUILD)/judge_server) $(BUILD)/faults.so $(BUILD)/confined $(CAPI)
## test-tools: what the specs need beside lucid (test, test-slow, asan and ubsan build it)
test-tools: $(TEST_TOOLS)
	$(if $(HAVE_MHTTP),,@echo 'test-tools: no libmicrohttpd; the specs that need a server are skipped')

SPECS ?= tests/spec
## test: the specs, under bin/lucid (make test SPECS=tests/spec/forest_spec.lua)
test: all test-tools
	@LUCID_CACHE=none $(BIN)/lucid tests/run.lua $(SPECS)

## test-device: the CUDA backend's specs, on a device that the CPU plays (LUCID_CUDA= for the one there is)
test-device: all emulation $(if $(EMULATED),$(BUILD)/liblucid_cuda_emulated.so) $(BUILD)/libcublaslt_recording.so $(NCCL_RECORDING) $(BUILD)/test_gemm
	@LUCID_BUILD=$(BUILD) LUCID_NCCL=$${LUCID_NCCL-$(NCCL_RECORDING)} LUCID_CUBLASLT=$${LUCID_CUBLASLT-$(BUILD)/libcublaslt_recording.so} \
	 LUCID_CUDA=$${LUCID_CUDA-$(BUILD)/liblucid_cuda_emulated.so} LUCID_CACHE=none $(BIN)/lucid tests/run.lua tests/cuda

## deps-browser: install Chromium, in which a slow test opens reports
deps-browser:
	$(call install_missing,$(BROWSER))

## soak: twenty minutes of lucid serve among good, bad, slow and half-closed clients
soak: all test-tools
	LUCID_SOAK_SECONDS=1200 $(BIN)/lucid tests/run.lua tests/slow/serve_soak_spec.lua

## deps-fuzz: install clang with libFuzzer, without which fuzz is skipped in test-slow
deps-fuzz:
	$(call install_missing,$(FUZZ_PACKAGES))

## deps-analysers: install valgrind, clang-tidy and cppcheck, without which valgrind is skipped in test-slow
deps-analysers:
	$(call install_missing,$(ANALYSERS))

## test-slow: what takes minutes: the demo's smoke run twice, killed runs, large random cases
test-slow: all test-tools cuda test-device
	@LUCID_CACHE=none $(BIN)/lucid tests/run.lua tests/slow

## readme-check: README.md to the letter in a fresh clone: its commands, the demo's numbers, its Lua (minutes)
readme-check:
	@tests/readme.sh

## crash: 1,000 kills (SIGKILL) of training, mining, POPE and SHR over whole runs (15 minutes; MOMENTS= RUNS= SEED=)
MOMENTS ?= 1000
RUNS ?= 20
crash: all test-tools
	@$(BIN)/lucid tests/crash/kill.lua $(MOMENTS) $(RUNS) $(SEED)

## faults: a cycle that is refused memory at every call stack, whose disk fails at every call, or loses what was not synced (2 hours)
faults: all test-tools
	@for what in allocations disk power; do LD_PRELOAD=$(abspath $(BUILD))/faults.so $(BIN)/lucid tests/crash/$$what.lua $(CASES) || exit 1; done

## bench-peers: beside PyTorch, TRL, llama.cpp and others on the same work; ROW=name runs one row (hours; tests/bench/README.md)
bench-peers: all
	@tests/bench/peers.sh

## bench-true-size: memory and speed of LLaVA-1.5-7B, names of InstructBLIP-13B (20 minutes, 14 GB of disk)
bench-true-size: all
	@tests/bench/true_size.sh

## bench-scale: a step's cost over tokens, pairs, pictures and processes, and what 8 and 512 GPUs would do (5 minutes)
bench-scale: all
	@nice $(BIN)/lucid tests/bench/scale.lua
	@nice $(BIN)/lucid tests/bench/cluster.lua

# ---- a machine that has a GPU and little else: tests/gpu/README.md -----------------------------------------
GPU := build/gpu
# Not for the CPU of this machine: for any of the last ten years. The plug-in is built where the GPU is.
BUNDLE = BUILD=build-gpu BIN=build-gpu/bin ARCH=x86-64-v3 BUNDLED=1
## gpu-bundle: all that gpu-check and gpu-bench need beside the repository, into build/gpu (at most 50 MiB)
gpu-bundle:
	@$(MAKE) --no-print-directory $(BUNDLE) bundled
	@ARCH=x86-64-v3 tests/gpu/bundle.sh build-gpu $(GPU)
bundled: $(BIN)/lucid $(BUILD)/liblucid.so $(BUILD)/lucid-decode $(if $(HAVE_SPM),$(BUILD)/liblucid_text.so) \
         $(if $(HAVE_CURL),$(BUILD)/liblucid_net.so)

## gpu-check: on a machine with a GPU and build/gpu: whether the CUDA backend is right there (8 minutes)
gpu-check:
	@tests/gpu/check.sh

## gpu-bench: the same: its speed against the chip's limits and PyTorch, as a table and JSON (8 minutes)
gpu-bench:
	@tests/gpu/bench.sh

C_FILES := $(filter-out native/lucid.h native/kernels.h,$(wildcard tests/gpu/*.c tests/gpu/*.cc native/*.h native/*/*.c native/*/*.h native/*/*.cc native/*/*.cu native/*/*.cuh tests/support/*.c tests/capi/*.c tests/capi/*.h tests/crash/*.c tests/fuzz/*.c tests/fuzz/*.h))
## check: luacheck, clang-format (dry run) and the floors of native/
check: all
	@luacheck -q lua recipes examples tests
	@clang-format --dry-run -Werror $(C_FILES)
	@$(BIN)/lucid tests/layers.lua

## docs: the pages of recipes/ anew, from the recipes' own options
docs: all
	@$(BIN)/lucid -e 'print(("docs: %d pages have changed"):format(require("lucid.pages").write()))'

## format: clang-format in place
format:
	@clang-format -i $(C_FILES)

# The host keeps its Lua state in malloc blocks, so that leaks and overruns are seen; LuaJIT itself is not
# instrumented. The leak check must not follow the threads' storage of libraries that are opened at run time:
# gcc 12's crashes there now and then.
SANITIZED = BUILD=build-$@ BIN=bin-$@ CFLAGS='-O1 -g -fno-omit-frame-pointer -DLC_MALLOC_STATE'
## asan: the specs under the address sanitizer
asan:
	@$(MAKE) --no-print-directory $(SANITIZED) SANITIZE=-fsanitize=address all test-tools
	@LUCID_LIB=$(CURDIR)/build-asan/liblucid.so LUCID_BIN=bin-asan/lucid \
	 ASAN_OPTIONS=detect_leaks=1:intercept_tls_get_addr=0 bin-asan/lucid tests/run.lua $(SPECS)

## ubsan: the specs under the undefined-behaviour sanitizer
ubsan:
	@$(MAKE) --no-print-directory $(SANITIZED) SANITIZE='-fsanitize=undefined -fno-sanitize-recover=all' all test-tools
	@LUCID_LIB=$(CURDIR)/build-ubsan/liblucid.so LUCID_BIN=bin-ubsan/lucid UBSAN_OPTIONS=print_stacktrace=1 \
	 bin-ubsan/lucid tests/run.lua $(SPECS)

# Without OpenMP, whose own synchronisation the sanitizer does not see: threads are the reader's, the server's and curl's.
THREADED := reader sandbox capi serve serve_gate judge_openai
## tsan: the specs of what has threads under the thread sanitizer
tsan:
	@$(MAKE) --no-print-directory $(SANITIZED) OPENMP= SANITIZE=-fsanitize=thread all test-tools
	@LUCID_LIB=$(CURDIR)/build-tsan/liblucid.so LUCID_BIN=bin-tsan/lucid LUCID_CACHE=none TSAN_OPTIONS=second_deadlock_stack=1 \
	 bin-tsan/lucid tests/run.lua $(THREADED:%=tests/spec/%_spec.lua)

# For a processor that valgrind can play.
PLAYED = BUILD=build-$@ BIN=bin-$@ CFLAGS='-O1 -g' OPENMP= $(if $(filter x86_64,$(shell uname -m)),ARCH=x86-64-v3)
## valgrind: the walk through the C API under valgrind: no byte is read before it is written, none is lost
valgrind:
	@$(MAKE) --no-print-directory $(PLAYED) all test-tools
	@bin-valgrind/lucid tests/capi/files.lua build-valgrind/folder
	@valgrind --quiet --error-exitcode=1 --leak-check=full --show-leak-kinds=definite,indirect \
	 --errors-for-leak-kinds=definite,indirect --num-callers=25 build-valgrind/capi build-valgrind/folder

## tidy: clang-tidy and cppcheck over native/, but for what tests/tidy.txt lists with reasons
tidy: all
	@$(BIN)/lucid tests/tidy.lua -std=c11 $(filter-out -MMD -MP,$(COMMON)) $(LUA_CFLAGS) $(MPI_CFLAGS) -DLC_KERNELS_HASH='""'

# ---- installing and packages -------------------------------------------------------------------------------
# Everything finds the rest by its own place, so PREFIX may be moved. The pages and completions are written by the
# program that was installed.
VERSION := $(shell sed -n 's/.*version = "\([0-9.]*\)".*/\1/p' lua/lucid/native.lua)
TREE     = $(DESTDIR)$(PREFIX)
SHARE    = $(TREE)/share
## install: the program, its library and header, manual pages and completions into PREFIX, below DESTDIR
install: all
	@rm -rf "$(TREE)/lib/lucid" "$(SHARE)/lucid"
	@install -d "$(TREE)/include" "$(TREE)/lib/lucid"
	@install -D -m 755 $(BIN)/lucid "$(TREE)/bin/lucid"
	@install -m 644 $(filter-out %_emulated.so,$(wildcard $(BUILD)/liblucid*.so)) "$(TREE)/lib/lucid/"
	@install -m 755 $(BUILD)/lucid-decode "$(TREE)/lib/lucid/"
	@for f in $$(find lua recipes -type f ! -name '*.md') examples/*.lua; do install -D -m 644 $$f "$(SHARE)/lucid/$$f"; done
	@install -m 644 native/lucid.h "$(SHARE)/lucid/lucid.h"
	@ln -sf ../share/lucid/lucid.h "$(TREE)/include/lucid.h"
	@install -D -m 644 .ci/package/lucid.lua "$(SHARE)/lua/5.1/lucid.lua"
	@install -D -m 644 .ci/package/lucid.pc "$(TREE)/lib/pkgconfig/lucid.pc"
	@sed -i 's/@VERSION@/$(VERSION)/' "$(TREE)/lib/pkgconfig/lucid.pc"
	@umask 022; env -u LUCID_LIB "$(TREE)/bin/lucid" -e 'lucid.manual.write(arg[1])' "$(SHARE)"

## uninstall: take away what install has put there
uninstall:
	@rm -rf "$(TREE)/lib/lucid" "$(SHARE)/lucid"
	@rm -f "$(TREE)/bin/lucid" "$(TREE)/include/lucid.h" "$(TREE)/lib/pkgconfig/lucid.pc" "$(SHARE)/lua/5.1/lucid.lua" \
	  "$(SHARE)/bash-completion/completions/lucid" "$(SHARE)/zsh/site-functions/_lucid" \
	  "$(SHARE)/fish/vendor_completions.d/lucid.fish" "$(SHARE)/man/man1/lucid.1"
	@for f in recipes/*.lua; do rm -f "$(SHARE)/man/man1/lucid-$$(basename $$f .lua).1"; done

# What luarocks calls: it takes the rock's bin, lib and lua elsewhere, so PREFIX is a folder beside them, and what is
# there says so. set -e: luarocks would take the other line for Lua.
rock: install
	@install -d "$(BINDIR)" "$(LUADIR)"
	@printf '#!/bin/sh\nset -e\nexec "%s" "$$@"\n' "$(TREE)/bin/lucid" > "$(BINDIR)/lucid"
	@chmod 755 "$(BINDIR)/lucid"
	@sed 's|^local root = .*|local root = "$(SHARE)/lucid/"|' .ci/package/lucid.lua > "$(LUADIR)/lucid.lua"
	@rm -rf "$(SHARE)/lua"

# For any x86-64 of the last ten years, not for the CPU of this machine.
DEB = BUILD=build-deb BIN=build-deb/bin $(if $(filter x86_64,$(shell uname -m)),ARCH=x86-64-v3,ARCH=armv8-a)
## deb: a Debian package of this checkout for this release, build-deb/lucid_VERSION_ARCHITECTURE.deb
deb:
	@$(MAKE) --no-print-directory $(DEB) PREFIX=/usr DESTDIR=build-deb/root install
	@.ci/package/deb build-deb $(VERSION)

## package-check: the packages in clean roots (Debian, as root): built, installed, run, taken away; 4 minutes
package-check:
	@.ci/package/check
endif

## clean: remove what was built
clean:
	rm -rf build build-asan build-ubsan build-tsan build-valgrind build-gpu build-deb build-fuzz bin bin-asan bin-ubsan bin-tsan bin-valgrind

## help: this list
help:
	@sed -n 's/^## //p' $(firstword $(MAKEFILE_LIST)) | awk '{n = index($$0, ": "); printf "  make %-16s %s\n", substr($$0, 1, n - 1), substr($$0, n + 2)}'

.PHONY: all tsan valgrind tidy deps-analysers fuzz fuzz-long fuzzers cuda emulation deps deps-browser deps-fuzz demo docs readme-check test test-tools test-device test-slow crash faults soak bench-peers bench-true-size bench-scale check format asan ubsan gpu-bundle bundled gpu-check gpu-bench install uninstall rock deb package-check clean help
