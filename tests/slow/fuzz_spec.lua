-- Every fuzzer of tests/fuzz for its fixed number of inputs, under the sanitizers. Skipped without clang's libFuzzer:
-- make deps-fuzz.
local file = require "lucid.file"
local folder = require "tests.support.folder"

describe("hostile bytes", function()
  it("meet no fault: make fuzz", function()
    local dir = folder.folder()
    local probe = ("echo 'int LLVMFuzzerTestOneInput(const char *, unsigned long) { return 0; }' | "
      .. "clang -x c - -fsanitize=fuzzer,address -o %s/probe 2>/dev/null"):format(dir)
    local there = os.execute(probe) == 0
    local status = there and os.execute(("make -s -j2 fuzz >%s/log 2>&1"):format(dir))
    local log = there and file.read(dir .. "/log")
    folder.remove(dir)
    if not there then return pending "there is no clang with libFuzzer: make deps-fuzz" end
    assert.equal(0, status, log)
    local count = 0
    for line in log:gmatch "[^\n]+" do
      local inputs = line:match "^%w+ +(%d+) inputs, +%d+ edges$"
      if inputs then
        count = count + 1
        assert.is_true(tonumber(inputs) >= 2000, line)
      end
    end
    assert.is_true(count >= 15, log)
  end)
end)
