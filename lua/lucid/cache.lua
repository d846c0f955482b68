-- Where caches are kept between runs, and the keys under which they are found again.
local ffi = require "ffi"
local json = require "lucid.json"
local native = require "lucid.native"

local C = native.C
local M = {}

--- The folder: the option --cache, else $LUCID_CACHE, $XDG_CACHE_HOME/lucid, ~/.cache/lucid; nil when
--- none of them is set, or it is "none".
---@param option string|nil     the value of --cache; empty is as nil
---@return string|nil
function M.folder(option)
  local own, base, home = os.getenv("LUCID_CACHE"), os.getenv("XDG_CACHE_HOME"), os.getenv("HOME")
  local folder
  if option and option ~= "" then folder = option
  elseif own and own ~= "" then folder = own
  elseif base and base ~= "" then folder = base .. "/lucid"
  elseif home and home ~= "" then folder = home .. "/.cache/lucid" end
  return folder ~= "none" and folder or nil
end

--- The SHA-256 of any bytes, 64 digits.
---@param bytes string|ffi.cdata*
---@param n integer|nil         how many; default: the string's
---@return string
function M.hash(bytes, n)
  local hex = ffi.new("char[65]")
  native.check(C.lc_sha256(bytes, n or #bytes, hex))
  return ffi.string(hex, 64)
end

--- The key of what was made from some settings: a hash of their JSON.
---@param parts table
---@return string
function M.key(parts) return M.hash(json.encode(parts)) end

--- The hash of a tensor: its dtype, its shape and its elements.
---@param t lucid.Tensor
---@return string
function M.tensor_hash(t)
  local n = t:count() * tonumber(C.lc_dtype_bytes(native.dtype(t:dtype())))
  local bytes = ffi.new("uint8_t[?]", n)
  native.check(C.lc_tensor_read(t, bytes, n))
  return M.hash(("%s [%s] %s"):format(t:dtype(), table.concat(t:shape(), ", "), M.hash(bytes, n)))
end

return M
