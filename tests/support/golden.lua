-- What specs that replay golden files share.
local lucid = require "lucid"
local M = {}

-- Every number of a table, in order, whatever the nesting.
local function flatten(value, out)
  if type(value) ~= "table" then
    out[#out + 1] = value
  else
    for i = 1, #value do flatten(value[i], out) end
  end
  return out
end

--- ||a - b|| / ||b|| of tensors or nested tables; other counts and NaN are infinitely far.
function M.distance(a, b)
  a = flatten(type(a) == "table" and a or a:tolist(), {})
  b = flatten(type(b) == "table" and b or b:tolist(), {})
  local off, size = 0, 0
  for i = 1, #b do
    off, size = off + ((a[i] or math.huge) - b[i]) ^ 2, size + b[i] ^ 2
  end
  if #a ~= #b or off ~= off then return math.huge end
  return math.sqrt(off / math.max(size, 1e-30))
end

--- Fails with the distance when a is further from b than the tolerance.
function M.agree(a, b, tolerance, what)
  local d = M.distance(a, b)
  assert(d <= tolerance, ("%s: %.3g away, %.3g is allowed"):format(what, d, tolerance))
end

--- A model in f32, whatever its file has: what goldens are compared with.
function M.model(folder, opt)
  local exact = { dtype = "f32" }
  for name, value in pairs(opt or {}) do exact[name] = value end
  return lucid.model(folder, exact)
end

return M
