-- How a tensor prints: its values (of a large one those at the edges), dtype, shape and device, and what all of its
-- values are like.
--
--   [[0.1305, 0.7231, ..., 0.4410],
--    ...]  f32 [4096, 4096] cpu  min -4.1  max 3.9  mean 0.0012  2 NaN
local ffi = require "ffi"
local native = require "lucid.native"

local C = native.C
local M = {}

local EDGE, SUMMARY = 3, 1000     -- places shown at either end, and from how many elements on
local FEW = 10                    -- elements that need no summary: they can be seen
local WIDE = 100                  -- columns, behind which a row goes on below its beginning

local function formatter(values, n, dtype)
  if dtype == "i32" or dtype == "u8" then return function(v) return ("%d"):format(v) end end
  local whole, most, least = true, 0, math.huge
  for i = 0, n - 1 do
    local v = math.abs(values[i])
    if v == v and v < math.huge then
      whole = whole and v == math.floor(v)
      most = math.max(most, v)
      if v > 0 then least = math.min(least, v) end
    end
  end
  if whole and most < 1e6 then
    return function(v) return (v == v and math.abs(v) < math.huge and "%.0f." or "%.0f"):format(v) end
  end
  if most >= 1e5 or (least < math.huge and least < 1e-4 and most < 1e-2) then
    return function(v) return ("%.4e"):format(v) end
  end
  return function(v) return ("%.4f"):format(v) end
end

-- cut[depth]: the middle of that dim is not here.
local function draw(values, shape, show, width, cut)
  local function level(depth, offset, stride, indent)
    if depth > #shape then return (" "):rep(math.max(0, width - #show(values[offset]))) .. show(values[offset]) end
    local size, parts = shape[depth], {}
    local step = stride / math.max(size, 1)
    for i = 0, size - 1 do
      if cut[depth] and i == EDGE then parts[#parts + 1] = "..." end
      parts[#parts + 1] = level(depth + 1, offset + i * step, step, indent + 1)
    end
    local below = (" "):rep(indent + 1)
    local gap = depth == #shape and ", " or "," .. ("\n"):rep(#shape - depth) .. below
    local fits = math.max(1, math.floor((WIDE - indent) / (width + 2)))
    if depth == #shape and #parts > fits then
      local rows = {}
      for i = 1, #parts, fits do rows[#rows + 1] = table.concat(parts, ", ", i, math.min(i + fits - 1, #parts)) end
      parts, gap = rows, ",\n" .. below
    end
    return "[" .. table.concat(parts, gap) .. "]"
  end
  local total = 1
  for _, s in ipairs(shape) do total = total * s end
  return level(1, 0, total, 0)
end

-- Without the middle of every dim that is longer than both its edges.
local function edges(t, cut)
  for dim, size in ipairs(t:shape()) do
    cut[dim] = size > 2 * EDGE
    if cut[dim] then
      local pair = ffi.new("lc_tensor *[2]", t:slice(dim, 1, EDGE), t:slice(dim, size - EDGE + 1, size))
      t = native.adopt(C.lc_cat(2, pair, dim - 1))
    end
  end
  return t
end

local function values_of(t)
  local n = t:count()
  local exact = t:dtype() == "i32"
  local values = ffi.new(exact and "int32_t[?]" or "float[?]", n)
  native.check(exact and C.lc_tensor_read(t, values, 4 * n) or C.lc_tensor_read_f32(t, values, n))
  return values, n
end

local function drawn(t)
  if t:count() == 0 then return "[]" end
  local cut = {}
  if t:count() > SUMMARY then t = edges(t, cut) end
  local values, n = values_of(t)
  local format, width = formatter(values, n, t:dtype()), 0
  for i = 0, n - 1 do width = math.max(width, #format(values[i])) end
  return draw(values, t:shape(), format, width, cut)
end

local out = ffi.new "double[5]"

-- What all values are like, where they cannot all be seen at a glance.
local function summary(t)
  native.check(C.lc_tensor_summary(t, out))
  local nan, infinite = out[3], out[4]
  local text = ""
  if t:count() > FEW and out[0] == out[0] then text = ("  min %.4g  max %.4g  mean %.4g"):format(out[0], out[1], out[2]) end
  if nan > 0 then text = text .. ("  %.0f NaN"):format(nan) end
  if infinite > 0 then text = text .. ("  %.0f infinite"):format(infinite) end
  return text
end

--- What a tensor is, without its values: "f32 [2, 3] cpu".
---@param t any
---@return string
function M.head(t) return ("%s [%s] %s"):format(t:dtype(), table.concat(t:shape(), ", "), t:device()) end

--- The text of a tensor.
---@param t any
---@return string
function M.text(t)
  local head = M.head(t)
  if not t:alive() then return head .. " released" end
  if t:packed() then return ("packed %s, %d bytes"):format(head, t:bytes()) end
  local grad = C.lc_tensor_wants_grad(t) ~= 0 and " grad" or ""
  return native.scope(native.no_grad, drawn, t) .. "  " .. head .. grad .. summary(t)
end

return M
