-- Runs spec files without busted, on the device: what the golden specs use of it, in one page. An assertion that is not
-- here is an error of the test that uses it.
--   lucid tests/gpu/specs.lua FILE...
local native = require "lucid.native"

native.device "cuda"                       -- models that name no device take the one that was started

-- ---- assertions ------------------------------------------------------------------------------------------

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do
    if not same(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

-- Each says whether it holds, and which argument is the message.
local HOLDS = {
  equal = function(a, b, message) return a == b, message end,
  same = function(a, b, message) return same(a, b), message end,
  ["true"] = function(a, message) return a == true, message end,
  ["false"] = function(a, message) return a == false, message end,
  ["nil"] = function(a, message) return a == nil, message end,
  truthy = function(a, message) return a and true or false, message end,
  number = function(a, message) return type(a) == "number", message end,
  string = function(a, message) return type(a) == "string", message end,
  near = function(a, b, within, message) return math.abs(a - b) <= within, message end,
  error_matches = function(f, pattern, message)
    local ok, reason = pcall(f)
    return not ok and tostring(reason):find(pattern) ~= nil, message or tostring(reason)
  end,
}

local plain_assert = assert

local function checker(_, name)
  local wanted, base = true, name:gsub("^is_", "")
  if base:find "^not_" then wanted, base = false, base:sub(5) end
  local holds = HOLDS[base] or error("specs: there is no assert." .. name, 2)
  return function(...)
    local ok, message = holds(...)
    if ok ~= wanted then
      error(("assert.%s of %s and %s%s"):format(name, tostring((...)), tostring((select(2, ...))),
        message and ": " .. tostring(message) or ""), 2)
    end
  end
end

-- ---- the runner ------------------------------------------------------------------------------------------

local counts, words, levels, final = { passed = 0, failed = 0, skipped = 0 }, {}, {}, nil
local SKIPPED = {}

local function run_all(list)
  for _, f in ipairs(list) do f() end
end

local function each_level(name)
  for _, level in ipairs(levels) do run_all(level[name]) end
end

local function report(what, reason)
  counts.failed = counts.failed + 1
  print(("failed: %s %s\n  %s"):format(table.concat(words, " "), what, tostring(reason)))
end

local function run_test(test)
  final = {}
  local ok, reason = pcall(function()
    each_level "before_each"
    test.f()
  end)
  run_all(final)
  each_level "after_each"
  if ok then counts.passed = counts.passed + 1
  elseif reason == SKIPPED then counts.skipped = counts.skipped + 1
  else report(test.name, reason) end
end

local environment = setmetatable({
  assert = setmetatable({}, { __index = checker, __call = function(_, ...) return plain_assert(...) end }),
  it = function(name, f) table.insert(levels[#levels].tests, { name = name, f = f }) end,
  finally = function(f) table.insert(final, f) end,
  pending = function() error(SKIPPED, 0) end,
}, { __index = _G })
for _, name in ipairs { "setup", "teardown", "before_each", "after_each" } do
  environment[name] = function(f) table.insert(levels[#levels][name], f) end
end

-- A group is read whole and then run; groups within it run where they stand.
function environment.describe(name, f)
  local level = { setup = {}, teardown = {}, before_each = {}, after_each = {}, tests = {} }
  levels[#levels + 1], words[#words + 1] = level, name
  local ok, reason = pcall(f)
  if ok then ok, reason = pcall(run_all, level.setup) end
  if ok then
    for _, test in ipairs(level.tests) do run_test(test) end
    ok, reason = pcall(run_all, level.teardown)
  end
  if not ok then report("as a whole", reason) end
  levels[#levels], words[#words] = nil, nil
end

-- Specs and what they require of tests/support use these as globals.
setmetatable(_G, { __index = environment })
_G.assert = environment.assert
for _, path in ipairs(arg) do plain_assert(loadfile(path))() end

local used = tonumber(native.C.lc_device_memory "peak")
print(("%d passed, %d failed, %d skipped; %.1f MB of the device's memory were used"):format(counts.passed,
  counts.failed, counts.skipped, used / 1e6))
os.exit(counts.failed == 0 and counts.passed > 0 and used > 0 and 0 or 1)
