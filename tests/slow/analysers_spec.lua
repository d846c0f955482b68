-- What valgrind, clang-tidy and cppcheck find: nothing, but what tests/tidy.txt lists. Skipped where they are missing:
-- make deps-analysers. make tsan takes minutes and stays by itself.
local function made(target, tools, want)
  for _, tool in ipairs(tools) do
    if os.execute(("command -v %s >/dev/null 2>&1"):format(tool)) ~= 0 then
      return pending(("there is no %s: make deps-analysers"):format(tool))
    end
  end
  local p = io.popen(("make -s -j2 %s 2>&1; echo status $?"):format(target))
  local text = p:read "*a"
  p:close()
  assert.truthy(text:find(want .. "[^\n]*\nstatus 0\n$"), text:sub(-3000))
end

describe("an analyser", function()
  it("sees nothing read before it is written and nothing lost: make valgrind", function()
    made("valgrind", { "valgrind" }, "capi: done")
  end)

  it("sees no fault in the sources: make tidy", function()
    made("tidy", { "clang-tidy", "cppcheck" }, "tidy: %d+ files, nothing but")
  end)
end)
