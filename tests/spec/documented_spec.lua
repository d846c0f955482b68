-- Everything that is public is documented: the functions of lua/lucid, the declarations of lucid.h. The finder is
-- tested on samples first.
local documented = require "tests.support.documented"
local file = require "lucid.file"
local lucid = require "lucid"
local native = require "lucid.native"

describe("the finder of what is not documented", function()
  local function faults(text) return (documented.lua(text)) end

  it("takes a function with all its comments", function()
    local text = "--- Adds.\n---@param a number\n---@param b number|nil    default: 1\n---@return number\nfunction M.add(a, b)\n  return a + b\nend\n"
    local list, n = documented.lua(text)
    assert.same({ {}, 1 }, { list, n })
  end)

  it("names what is missing", function()
    assert.same({ "1: M.f says nothing of what it does" }, faults "function M.f()\nend")
    assert.same({ "2: M.f says nothing of what it does" }, faults "---@return number\nfunction M.f() return 1 end")
    assert.same({ "2: M.f says nothing of what it does" }, faults "-- Two dashes.\nfunction M.f()\nend")
    assert.same({ "3: M.f says nothing of what it does" }, faults "--- Of another.\n\nfunction M.f()\nend")
    assert.same({ "3: M.f has no @param b" }, faults "--- Adds.\n---@param a number\nfunction M.f(a, b)\nend")
    assert.same({ "2: Thing:f has no @param ..." }, faults "--- Adds.\nfunction Thing:f(...)\nend")
    assert.same({ "3: M.f has a @param that is none: b" }, faults "--- Adds.\n---@param b number\nfunction M.f()\nend")
    assert.same({ "2: M.f has no @return" }, faults "--- Adds.\nfunction M.f() return 1 end")
    assert.same({ "2: M.f has no @return" }, faults "--- Adds.\nfunction M.f()\n  if x then\n    return 1\n  end\nend")
    assert.same({ "2: M.f has no @return" }, faults "--- Adds.\nM.f = function()\n  return 1\nend")
    assert.same({ "1: methods.f says nothing of what it does", "1: methods.f has no @param t" }, faults "function methods.f(t)\nend")
  end)

  it("asks nothing of what is not public, of self, and of functions within", function()
    assert.same({}, faults "local function f(a) return a end\nfunction TABLE.f(a) return a end\nfunction Thing.__index(t, k)\n  return k\nend")
    assert.same({}, faults "--- Sorts.\nfunction M.f()\n  table.sort(t, function(a, b) return a < b end)\n  if x then return end\nend")
    assert.same({}, faults "--- Sets.\nfunction Thing.f(self, _)\n  self.g = function()\n    return 1\n  end\nend")
  end)

  it("names declarations without a comment", function()
    local list, n = documented.header [[
/* ---- a heading ---- */

int lc_a(void);    /* behind it */
int lc_b(void);
/* above it, and above the next one,
 * on two lines */
int lc_c(int a);
int lc_d(int a);

int lc_e(int a);
typedef struct lc_thing lc_thing;
typedef struct lc_other lc_other;   /* known */
enum { LC_ONE };]]
    assert.same({ { "4: lc_b", "10: lc_e", "11: lc_thing", "13: enum " }, 8 }, { list, n })
  end)
end)

-- The modules' files, folders within folders with them.
local function modules(folder, list)
  for _, name in ipairs(file.list(folder)) do
    local path = folder .. "/" .. name
    if file.kind(path) == "folder" then modules(path, list) elseif name:find "%.lua$" then list[#list + 1] = path end
  end
  return list
end

describe("what is public", function()
  it("is documented in Lua", function()
    local missing, all = {}, 0
    for _, path in ipairs(modules(native.root .. "lua/lucid", {})) do
      local faults, n = documented.lua(file.read(path))
      for _, fault in ipairs(faults) do missing[#missing + 1] = path:match "lua/lucid/.*" .. ":" .. fault end
      all = all + n
    end
    assert.same({}, missing)
    assert.is_true(all > 800)
  end)

  it("is found: what lucid and its modules export is written as the finder reads it", function()
    local places, assigned = {}, {}
    for _, path in ipairs(modules(native.root .. "lua/lucid", {})) do
      for name in pairs(documented.assigned(file.read(path))) do assigned[name] = true end
      local at = 0
      for line in file.read(path):gmatch "([^\n]*)\n" do
        at = at + 1
        if line:find "^function " or line:find "^[%w_]+%.[%w_]+ = function" then places[path .. ":" .. at] = true end
      end
    end
    for _, path in ipairs(modules(native.root .. "lua/lucid", {})) do
      local name = path:match "lua/lucid/([%w_]+)%.lua$"
      local module = name and (name == "init" and lucid or require("lucid." .. name))
      for key, value in pairs(type(module) == "table" and module or {}) do
        local info = type(value) == "function" and debug.getinfo(value, "S")
        if info and info.source:find "lua/lucid/" then
          assert.truthy(places[("%s:%d"):format(info.source:sub(2), info.linedefined)] or assigned[key],
            ("%s.%s (%s:%d)"):format(name, tostring(key), info.short_src, info.linedefined))
        end
      end
    end
  end)

  it("is documented in lucid.h", function()
    local faults, n = documented.header(file.read(native.root .. "native/lucid.h"))
    assert.same({}, faults)
    assert.is_true(n > 300)
  end)
end)
