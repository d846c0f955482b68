-- The tiny world: a small Visual Genome that is drawn, and the base model that learns it. Parts load at
-- first use: lucid.tinyworld.files is lua/lucid/tinyworld/files.lua.
return setmetatable({}, { __index = function(t, name)
  local part = require("lucid.tinyworld." .. name)
  rawset(t, name, part)
  return part
end })
