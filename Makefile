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
Q      := $(if $(V),,@)#   make V=1 shows the commands
JOBS   := $(or $(shell nproc 2>/dev/null),1)

# ---- what this machine has -----------------------------------------------------------------------
# Each library turns one feature on; without it the rest still builds. The answers are kept.
$(BUILD)/features.mk: Makefile
	@mkdir -p $(@D)
	@try() { printf '#include <stdio.h>\n#include <%s>\nint main(void) { return 0; }\n' "$$2" | $$3 - -o /dev/null $$4 \
	   2>/dev/null && echo "HAVE_$$1 := 1" || echo "HAVE_$$1 :="; }; \
	 { try JPEG jpeglib.h '$(CC) -x c' -ljpeg; try SPNG spng.h '$(CC) -x c' -lspng; \
	   try STB stb/stb_image.h '$(CC) -x c'; try CJSON cjson/cJSON.h '$(CC) -x c' -lcjson; \
	   try CRYPTO openssl/evp.h '$(CC) -x c' -lcrypto; try UTF8PROC utf8proc.h '$(CC) -x c' -lutf8proc; \
	   try EDIT editline/readline.h '$(CC) -x c' -ledit; \
	   try SPM sentencepiece_processor.h '$(CXX) -x c++' '-lsentencepiece -lsentencepiece_train'; } > $@
-include $(BUILD)/features.mk

FEATURES := $(foreach f,JPEG SPNG STB CJSON CRYPTO UTF8PROC EDIT SPM,$(if $(HAVE_$f),-DLC_HAVE_$f))
LIBS := $(if $(HAVE_JPEG),-ljpeg) $(if $(HAVE_SPNG),-lspng) \
        $(if $(HAVE_CJSON),-lcjson) $(if $(HAVE_CRYPTO),-lcrypto) $(if $(HAVE_UTF8PROC),-lutf8proc) -lm -ldl
LUA_CFLAGS := $(shell pkg-config --cflags luajit 2>/dev/null)
LUA_LIBS   := $(shell pkg-config --libs luajit 2>/dev/null)

# ---- flags ------------------------------------------------------------------------------------------
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wvla -Werror
CWARN := $(WARN) -Wstrict-prototypes -Wmissing-prototypes
CFLAGS ?= -O3 -g
# -ffp-contract=off: a vector body and its remainder must round alike; fused products are written out.
COMMON = $(CFLAGS) -march=$(strip $(ARCH)) -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno \
         -fno-trapping-math -fopenmp -Inative -MMD -MP $(FEATURES) $(SANITIZE)
LDFLAGS += -fopenmp -Wl,--as-needed -Wl,-z,relro,-z,now $(SANITIZE)

# ---- files --------------------------------------------------------------------------------------------
SOURCES := $(wildcard native/base/*.c native/tensor/*.c native/cpu/*.c native/ops/*.c native/io/*.c \
             native/image/*.c native/nn/*.c native/models/*.c native/train/*.c) native/text/tokenizer.c
OBJECTS := $(SOURCES:native/%.c=$(BUILD)/obj/%.o)
TEXT    := $(BUILD)/obj/text/sentencepiece.o
HOST    := $(patsubst native/%.c,$(BUILD)/obj/%.o,$(wildcard native/host/*.c))

## all: build bin/lucid and build/liblucid.so (the default)
all: $(BIN)/lucid $(BUILD)/liblucid.so $(if $(HAVE_SPM),$(BUILD)/liblucid_text.so)

$(BUILD)/obj/%.o: native/%.c $(BUILD)/features.mk
	@mkdir -p $(@D)
	@echo '  cc   $<'
	$(Q)$(CC) -std=c11 $(COMMON) $(CWARN) -c $< -o $@

$(BUILD)/obj/host/%.o: COMMON += $(LUA_CFLAGS)

# The choice of GEMM is a file's name, so that another choice compiles its user again.
GEMM_CHOICE := $(BUILD)/gemm-$(strip $(GEMM))
$(GEMM_CHOICE):
	@mkdir -p $(@D)
	@rm -f $(BUILD)/gemm-*
	@touch $@
$(BUILD)/obj/cpu/gemm.o $(BUILD)/obj/base/features.o: $(GEMM_CHOICE)
$(BUILD)/obj/cpu/gemm.o $(BUILD)/obj/base/features.o: COMMON += $(if $(filter loop,$(GEMM)),-DLC_GEMM_LOOP)

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

$(BIN)/lucid: $(HOST)
	@mkdir -p $(@D)
	@echo '  link $@'
	$(Q)$(CC) $(LDFLAGS) -rdynamic -o $@ $^ $(LUA_LIBS) $(if $(HAVE_EDIT),-ledit) -lm -ldl

-include $(OBJECTS:.o=.d) $(HOST:.o=.d) $(TEXT:.o=.d)

## clean: remove what was built
clean:
	rm -rf build build-* bin

## help: this list
help:
	@sed -n 's/^## //p' $(firstword $(MAKEFILE_LIST)) | awk -F': ' '{printf "  make %-16s %s\n", $$1, $$2}'

.PHONY: all clean help
