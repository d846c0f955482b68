-- lucid: tensors, models, preference training and its measures, in Lua.
--   local lucid = require "lucid"
-- Modules load at first use: lucid.image is lua/lucid/image.lua. Ops are functions, too: lucid.exp(t).
local native = require "lucid.native"
local tensor = require "lucid.tensor"

local M = {
  IMAGE = -200,               -- the token id that stands for a picture's rows
  version = native.version,
  tensor = tensor.tensor, zeros = tensor.zeros, ones = tensor.ones, full = tensor.full,
  empty = tensor.empty, randn = tensor.randn, rand = tensor.rand, cat = tensor.cat, seed = tensor.seed,
  is_tensor = native.is_tensor,
  scope = native.scope, no_grad = native.no_grad,
}

--- Sets the number of threads; 0: all cores. Results do not depend on it.
---@param n integer
function M.threads(n) native.C.lc_threads(n) end

--- How long f(...) takes: it is called several times (for about half a second), and waited for the device. Without f:
--- seconds of a clock that only goes forward.
---@param f function|nil
---@param ... any
---@return number|lucid.Timing
function M.time(f, ...)
  if f == nil then return native.C.lc_seconds() end
  return require("lucid.bench.timing").of(f, ...)
end

--- Whether a stream is a terminal: 0 input, 1 output, 2 errors.
---@param stream integer
---@return boolean
function M.is_terminal(stream) return native.C.lc_is_terminal(stream) ~= 0 end

--- Native memory in bytes: { used, peak }.
---@return table
function M.memory()
  return { used = tonumber(native.C.lc_memory_used()), peak = tonumber(native.C.lc_memory_peak()) }
end

-- The modules beside this file, by name.
local function modules()
  local list = {}
  for _, entry in ipairs(M.file.list(native.root .. "lua/lucid") or {}) do
    local name = entry:match("^(%a[%w_]*)%.lua$")
    if name and name ~= "init" then list[name] = true end
  end
  return list
end

--- The names that completion offers for a value: a table's keys, a tensor's methods; for lucid itself
--- its ops and modules, too.
---@param value any
---@return string[]
function M.complete(value)
  local names, seen = {}, {}
  local function collect(t)
    for name in pairs(t) do
      if type(name) == "string" and not name:match("^_") and not seen[name] then
        seen[name] = true
        names[#names + 1] = name
      end
    end
  end
  if value == M then
    collect(native.ops)
    collect(modules())
  end
  if native.is_tensor(value) then
    collect(tensor.methods)
    collect(native.ops)
  elseif type(value) == "table" then
    collect(value)
    local meta = getmetatable(value)
    if meta and type(meta.__index) == "table" then collect(meta.__index) end
  end
  table.sort(names)
  return names
end

return setmetatable(M, {
  __index = function(t, name)
    if native.ops[name] then return native.ops[name] end
    local ok, module = pcall(require, "lucid." .. name)
    if not ok then
      if tostring(module):find("module 'lucid." .. name .. "' not found", 1, true) then return nil end
      error(module, 0)
    end
    rawset(t, name, module)
    return module
  end,
})
