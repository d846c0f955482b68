-- Where caches are kept between runs.
local M = {}

--- The folder: the option --cache, else $LUCID_CACHE, $XDG_CACHE_HOME/lucid, ~/.cache/lucid; nil when
--- none of them is set.
---@param option string|nil     the value of --cache; empty is as nil
---@return string|nil
function M.folder(option)
  if option and option ~= "" then return option end
  local own, base, home = os.getenv("LUCID_CACHE"), os.getenv("XDG_CACHE_HOME"), os.getenv("HOME")
  if own and own ~= "" then return own end
  if base and base ~= "" then return base .. "/lucid" end
  return home and home ~= "" and home .. "/.cache/lucid" or nil
end

return M
