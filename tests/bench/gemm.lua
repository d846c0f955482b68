-- The speed of lc_matmul beside oneDNN's matmul primitive, plain and with weights reordered once.
--   bin/lucid tests/bench/gemm.lua [threads]
-- Medians of interleaved rounds with the quarter below and above. lc_matmul's time includes its
-- result's tensor; oneDNN's is the primitive alone, made beforehand. Without oneDNN it runs alone.
local ffi = require("ffi")
local C = require("lucid.native").C

local ROUNDS, ROUND_SECONDS = 21, 0.01

-- m, n, k, is A transposed, is B transposed
local SHAPES = {
  { "square", 1024, 1024, 1024 },
  { "square, B^T", 1024, 1024, 1024, false, true },
  { "square, A^T", 1024, 1024, 1024, true },
  { "attention projection", 1300, 128, 128, false, true },
  { "its dx", 1300, 128, 128 },
  { "its dW", 128, 128, 1300, true },
  { "gate, up", 1300, 352, 128, false, true },
  { "its dW", 352, 128, 1300, true },
  { "down", 1300, 128, 352, false, true },
  { "its dW", 128, 352, 1300, true },
  { "adapter A", 1300, 8, 128, false, true },
  { "adapter B", 1300, 128, 8, false, true },
  { "its da", 8, 128, 1300, true },
  { "vision MLP", 256, 512, 128, false, true },
  { "vision MLP", 4096, 512, 128, false, true },
  { "one token", 1, 128, 128, false, true },
  { "16 tokens", 16, 352, 128, false, true },
  { "head, 16 tokens", 16, 512, 128, false, true },
}

local function tensor(rows, cols, crossed, seed)
  local shape = ffi.new("int64_t[2]", crossed and cols or rows, crossed and rows or cols)
  local t = C.lc_tensor_adopt(C.lc_tensor_randn(2, shape, C.LC_F32, C.LC_HOST, seed, 0))
  if crossed then t = C.lc_tensor_adopt(C.lc_transpose(t, 0, 1)) end
  return t
end

-- ---- oneDNN's C interface, version 2; descriptors are opaque bytes of its sizes --------------

ffi.cdef [[
typedef struct { int64_t words[87]; } dnnl_memory_desc_t;
typedef struct { int64_t words[350]; } dnnl_matmul_desc_t;
typedef struct { int arg; void *memory; } dnnl_exec_arg_t;
typedef struct { int major, minor, patch; } dnnl_version_t;
const dnnl_version_t *dnnl_version(void);
int dnnl_engine_create(void **engine, int kind, size_t index);
int dnnl_stream_create(void **stream, void *engine, unsigned flags);
int dnnl_memory_desc_init_by_tag(dnnl_memory_desc_t *d, int ndims, const int64_t *dims, int dtype,
                                 int tag);
int dnnl_matmul_desc_init(dnnl_matmul_desc_t *d, const dnnl_memory_desc_t *a,
                          const dnnl_memory_desc_t *b, const dnnl_memory_desc_t *bias,
                          const dnnl_memory_desc_t *c);
int dnnl_primitive_desc_create(void **pd, const void *op, const void *attr, void *engine,
                               const void *hint);
int dnnl_primitive_desc_query(const void *pd, int what, int index, void *result);
const dnnl_memory_desc_t *dnnl_primitive_desc_query_md(const void *pd, int what, int index);
int dnnl_reorder_primitive_desc_create(void **pd, const dnnl_memory_desc_t *from,
                                       void *from_engine, const dnnl_memory_desc_t *to,
                                       void *to_engine, const void *attr);
int dnnl_primitive_create(void **p, const void *pd);
int dnnl_primitive_execute(const void *p, void *stream, int count, const dnnl_exec_arg_t *args);
int dnnl_memory_create(void **m, const dnnl_memory_desc_t *d, void *engine, void *data);
]]

local ENGINE_CPU, F32, AB, BA, ANY = 1, 3, 3, 22, 1
local SRC, WEIGHTS, DST, FROM, TO = 1, 33, 17, 1, 17
local QUERY_IMPLEMENTATION, QUERY_WEIGHTS = 8, 131

local loaded, D = pcall(ffi.load, "libdnnl.so.2")
loaded = loaded and D.dnnl_version().major == 2

local function made(f, ...)
  local slot = ffi.new("void *[1]")
  assert(f(slot, ...) == 0, "oneDNN refused")
  return slot[0]
end

local engine = loaded and made(D.dnnl_engine_create, ENGINE_CPU, 0)
local stream = loaded and made(D.dnnl_stream_create, engine, 1)

local function description(rows, cols, tag)
  local d = ffi.new("dnnl_memory_desc_t")
  assert(D.dnnl_memory_desc_init_by_tag(d, 2, ffi.new("int64_t[2]", rows, cols), F32, tag) == 0)
  return d
end

local function filled(count)
  local p = ffi.new("float[?]", count)
  for i = 0, count - 1 do p[i] = math.random() - 0.5 end
  return p
end

-- A function that runs one product, and the implementation's name.
local function onednn(m, n, k, a_crossed, b_crossed, reorder)
  local a, b = description(m, k, a_crossed and BA or AB), description(k, n, b_crossed and BA or AB)
  local c, wanted = description(m, n, AB), reorder and description(k, n, ANY) or b
  local op = ffi.new("dnnl_matmul_desc_t")
  assert(D.dnnl_matmul_desc_init(op, a, wanted, nil, c) == 0)
  local pd = made(D.dnnl_primitive_desc_create, op, nil, engine, nil)
  local name = ffi.new("const char *[1]")
  D.dnnl_primitive_desc_query(pd, QUERY_IMPLEMENTATION, 0, name)
  local data = { filled(m * k), filled(k * n), filled(m * n) }
  local weights = made(D.dnnl_memory_create, b, engine, data[2])
  if reorder then
    local packed = D.dnnl_primitive_desc_query_md(pd, QUERY_WEIGHTS, 0)
    local to = made(D.dnnl_memory_create, packed, engine, ffi.cast("void *", -1))
    local move = made(D.dnnl_primitive_create,
      made(D.dnnl_reorder_primitive_desc_create, b, engine, packed, engine, nil))
    D.dnnl_primitive_execute(move, stream, 2,
      ffi.new("dnnl_exec_arg_t[2]", { { FROM, weights }, { TO, to } }))
    weights = to
  end
  local primitive = made(D.dnnl_primitive_create, pd)
  local args = ffi.new("dnnl_exec_arg_t[3]", {
    { SRC, made(D.dnnl_memory_create, a, engine, data[1]) },
    { WEIGHTS, weights },
    { DST, made(D.dnnl_memory_create, c, engine, data[3]) },
  })
  return function()
    D.dnnl_primitive_execute(primitive, stream, 3, args)
    return data
  end, ffi.string(name[0])
end

-- ---- measuring ----------------------------------------------------------------------------------

local function seconds(run, repeats)
  local start = C.lc_seconds()
  for _ = 1, repeats do run() end
  return (C.lc_seconds() - start) / repeats
end

-- Per runner, its sorted times; rounds are interleaved so that a slow moment hits all.
local function measure(runners)
  local times, repeats = {}, {}
  for i, run in ipairs(runners) do
    seconds(run, 2)
    repeats[i] = math.max(1, math.floor(ROUND_SECONDS / seconds(run, 2)))
    times[i] = {}
  end
  for _ = 1, ROUNDS do
    for i, run in ipairs(runners) do table.insert(times[i], seconds(run, repeats[i])) end
  end
  for i in ipairs(runners) do table.sort(times[i]) end
  return times
end

local function processor()
  for line in io.lines("/proc/cpuinfo") do
    local name = line:match("^model name%s*:%s*(.*)")
    if name then return name end
  end
end

local function cell(times, operations)
  local function rate(share) return operations / times[math.ceil(#times * share)] * 1e-9 end
  return ("%9.1f us %6.1f GFLOP/s [%6.1f..%6.1f]"):format(operations / rate(0.5) * 1e-3, rate(0.5),
    rate(0.75), rate(0.25))
end

C.lc_threads(tonumber(arg and arg[1]) or 0)
print(("%s, %d threads, f32"):format(processor(), C.lc_threads_used()))
print(ffi.string(C.lc_features()):match("gemm: [^\n]*"))
if loaded then
  local v = D.dnnl_version()
  local _, name = onednn(1024, 1024, 1024)
  print(("oneDNN %d.%d.%d, %s"):format(v.major, v.minor, v.patch, name))
end
print(("%-21s %-17s %-45s%-45s%-45s%s"):format("", "m n k", "lc_matmul", "oneDNN, plain",
  "oneDNN, packed", "its best / lc_matmul"))
for _, shape in ipairs(SHAPES) do
  local what, m, n, k, a_crossed, b_crossed = unpack(shape)
  local a, b = tensor(m, k, a_crossed, 1), tensor(k, n, b_crossed, 2)
  local runners = { function()
    assert(C.lc_matmul(a, b) ~= nil)
    C.lc_tensor_adopt(nil)
  end }
  if loaded then
    runners[2] = onednn(m, n, k, a_crossed, b_crossed)
    runners[3] = onednn(m, n, k, a_crossed, b_crossed, true)
  end
  local times, cells, best = measure(runners), {}, math.huge
  for i, t in ipairs(times) do
    cells[i] = cell(t, 2 * m * n * k)
    if i > 1 then best = math.min(best, t[math.ceil(#t / 2)]) end
  end
  local share = loaded and ("%.2f"):format(best / times[1][math.ceil(ROUNDS / 2)]) or ""
  print(("%-21s %-17s %s  %s"):format(what, ("%d %d %d"):format(m, n, k),
    table.concat(cells, "  "), share))
  C.lc_tensor_release(a)
  C.lc_tensor_release(b)
end
