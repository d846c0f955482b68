-- The spec of adapters around their weights (cuda/lora_spec.lua) can fail: each of these faults, planted in a copy of the
-- core, is noticed. Faults that the host would share are golden specs' to notice.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local emulated = require "tests.support.emulated"

local BORDER, LINEARS, TAPE = "ops/border.c", "ops/linears.c", "ops/autograd.c"
local CORE = "base tensor cpu ops io image nn models train text dist net"

-- name, file, text, what it becomes
local FAULTS = {
  { "a changed adapter is not written again", BORDER, "changes == b->filled", "b->filled" },
  { "s is left out of s B", BORDER, ".scale = (float)part[i].scale", ".scale = 1" },
  { "adapters of a group lie over each other", BORDER, "u += rank;", "" },
  { "the product without the adapter has an algorithm of its own", LINEARS, "w.most = all;", "" },
  { "V is made of the first part's gradient alone", LINEARS, "g.step = g.cols = sb.rows", "g.cols = sb.rows" },
  { "a second micro-batch takes the place of the first", LINEARS, "x, 1, !fresh)", "x, 1, 0)" },
  { "B's gradient lacks s", LINEARS, "u, c->part->scale,", "u, 1," },
  { "dX lacks V A", LINEARS, "rows_with_room(g, 0, n + b.r)", "rows_with_room(g, 0, n)" },
  { "a trained weight stays among frozen ones", TAPE, "if (on && t->lodged", "if (0 && t->lodged" },
}

describe("a fault planted around an adapter", function()
  local PLUGIN, LIBRARY = "build/liblucid_cuda_emulated.so", "build/libcublaslt_recording.so"
  if not (file.exists(PLUGIN) and file.exists(LIBRARY)) then
    pending("is looked for where the emulated device is built (make test-device)")
    return
  end
  local copy
  setup(function()
    copy = folder.folder()
    local parts = CORE:gsub("%w+", "build/obj/%0")
    local ok, output = emulated.run(("cp -a --parents Makefile native build/features.mk build/gemm-* build/liblucid_text.so %s %s"):format(parts, copy))
    assert(ok, output)
  end)
  teardown(function() folder.remove(copy) end)

  local function passes(fault)
    local path = copy .. "/native/" .. fault[2]
    local sound = file.read(path)
    local first, last = sound:find(fault[3], 1, true)
    assert(first, fault[2] .. ": the text to change is gone: " .. fault[3])
    file.write(path, sound:sub(1, first - 1) .. fault[4] .. sound:sub(last + 1))
    local built, why = emulated.run(("make -s -C %s build/liblucid.so"):format(copy))
    local ok, output = emulated.run(("LUCID_LIB=%s/build/liblucid.so LUCID_CUDA=%s LUCID_CUBLASLT=%s LUCID_CACHE=none "
      .. "timeout 120 bin/lucid tests/run.lua tests/cuda/lora_spec.lua"):format(copy, PLUGIN, LIBRARY))
    file.write(path, sound)
    assert(built, why)
    return ok, output
  end

  it("and without one it passes", function()
    local ok, output = passes { "none", BORDER, "", "" }
    assert.is_true(ok, output)
  end)

  for _, fault in ipairs(FAULTS) do
    it("is noticed: " .. fault[1], function()
      local ok, output = passes(fault)
      assert.is_false(ok, output)
      assert.truthy(output:find(" passed, [1-9]%d* failed"), output)
    end)
  end
end)
