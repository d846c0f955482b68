-- require "lucid" in plain LuaJIT, which looks for this file; the library itself is in a folder of its own.
local root = assert(debug.getinfo(1, "S").source:match "^@(.*)lua/5%.1/lucid%.lua$", "lucid.lua: it is not in share/lua/5.1") .. "lucid/"
package.path = ("%slua/?.lua;%slua/?/init.lua;%s"):format(root, root, package.path)
return dofile(root .. "lua/lucid/init.lua")
