-- The emulation hides no fault: each of these, planted in the attention kernels, is noticed.
local emulated = require "tests.support.emulated"

local FORWARD, BACKWARD = "attention_forward.cu", "attention_backward.cu"
local DECODE, SHARED = "attention_decode.cu", "attention.cuh"
local SYNC = "__syncthreads(); "

local function missing(what, file) return { "no barrier: " .. what, file, SYNC .. "/* " .. what, "/* " .. what } end

-- name, file, text, what it becomes
local FAULTS = {
  missing("keys are here, the values before are used", FORWARD),
  missing("values are here, the keys are used", FORWARD),
  missing("it is known which keys the rows see", BACKWARD),
  missing("keys and values are here, those before are used", BACKWARD),
  missing("this step and the number of the next are here", BACKWARD),
  missing("queries and keys are here", DECODE),
  missing("values, maxima and sums are here", DECODE),
  missing("it is known which rows are complete", DECODE),
  { "a wait that lets the keys be late", FORWARD, "cp_async_wait<0>();\n        __syncthreads(); /* keys",
    "cp_async_wait<1>();\n        __syncthreads(); /* keys" },
  { "a wait that lets the values be late", FORWARD, "cp_async_wait<0>();\n        __syncthreads(); /* values",
    "cp_async_wait<1>();\n        __syncthreads(); /* values" },
  { "a wait that lets the decoder's keys be late", DECODE, "cp_async_wait<1>", "cp_async_wait<2>" },
  { "a row sees a key too many", SHARED, ">= last)", "> last)" },
  { "a key is seen by a query too few", BACKWARD, "ahead <= query", "ahead < query" },
  { "a query before the keys adds to their gradient", BACKWARD, "if (ahead + 15 > 0)", "if (ahead > 0)" },
  { "a step is taken as full too early", FORWARD, "at + KEYS > own_seen[0]", "at > own_seen[0]" },
  { "a step of the gradient is taken as full too early", BACKWARD, "at + STEP > own_seen[0]", "at > own_seen[0]" },
  { "a warp stops before its last row's keys", BACKWARD, "at >= own_seen[16 * m - 1]", "at >= own_seen[0]" },
  { "a range is a key too long", "spans.h", "if (at - c->start < length)", "if (at - c->start <= length)" },
  { "a path begins at the wrong range", SHARED, "{b->r0, b->r1, 0}", "{b->r0 + 1, b->r1, 0}" },
  { "a block of keys begins a tile too late", "spans.c", "b.t0++; /*", "b.t0 += 2; /*" },
  { "leaves share a chunk whose rows differ", "spans.c", "if (x != y) return false;", "" },
  { "registers of a fragment swapped", SHARED, "mma<T>(s[i][j], a[i], b[0], b[1])",
    "mma<T>(s[i][j], a[i], b[1], b[0])" },
  { "halves of a fragment swapped", SHARED, "row + lane % 16, lane / 16)", "row + lane % 16, 1 - lane / 16)" },
  { "a load that does not transpose", SHARED, "ldmatrix_trans(", "ldmatrix(" },
  { "chunks that share banks", SHARED, ": row & 7", ": 0" },
  { "the sums do not follow a new maximum", FORWARD, "r.o[x][j][half * 2] *= factor;", "" },
  { "rows behind the last are read", SHARED, "at[i] >= 0 && own", "own" },
  { "rows behind the last are stored", SHARED, "if (row + x < n)", "" },
  { "warps store rows that are not written yet", SHARED, "__syncwarp();\n    for", "for" },
  { "heads read the keys of another group", FORWARD, "own.head / c.share", "own.head % c.groups" },
  { "the gradient lacks delta", BACKWARD, "- (x % 2 ? delta.y : delta.x)", "" },
  { "a chunk's maximum is forgotten", DECODE, "const float factor = fast_exp2(__ldcg(part + d) - base);",
    "const float factor = 1;" },
  { "a row's last chunk is left out", DECODE, "i < chunks; i++) {", "i < chunks - (chunks > 1); i++) {" },
  { "the counter of chunks is left as it is", DECODE, "if (last) *arrived = 0;", "" },
  { "a row that sees nothing is forgotten", "spans.c", "c >= spans_chunks(seen[i])", "seen[i] <= c * CHUNK" },
}

describe("a fault planted in the attention kernels", function()
  if not emulated.built() then
    pending("is looked for where the emulation runs (make emulation)")
    return
  end
  local base
  setup(function()
    base = os.tmpname()
    os.remove(base)
    emulated.run("mkdir -p " .. base)
    emulated.prepare(base)
  end)
  teardown(function() emulated.run("rm -r " .. base) end)

  local function runs(fault)
    local program = emulated.plant(base, fault)
    local ok, output = emulated.run(("timeout 60 %s 1 24 64"):format(program))
    emulated.run("rm -r " .. program:match("^(.*)/"))
    return ok, output
  end

  it("and without one it passes", function()
    local ok, output = runs { file = FORWARD }
    assert.is_true(ok, output)
  end)

  for _, f in ipairs(FAULTS) do
    it("is noticed: " .. f[1], function()
      local ok, output = runs { file = f[2], from = f[3], to = f[4] }
      assert.is_false(ok, output)
    end)
  end
end)
