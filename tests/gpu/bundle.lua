-- Whether the bundle is whole: everything that Lucid opens is opened, and then the process has no library but the
-- bundle's own and libc's (and those of the driver and of CUDA).
--   lucid tests/gpu/bundle.lua FOLDER
local file = require "lucid.file"
local lucid = require "lucid"
local native = require "lucid.native"

local folder = arg[1]

-- One of each: a tokenizer, both decoders, JSON, a hash, a client, a product.
lucid.tokenizer(native.root .. "tests/golden/tokenizer"):encode "There is a red car."
for _, name in ipairs { "png", "jpg" } do
  local path = os.tmpname() .. "." .. name
  lucid.image.save(lucid.zeros({ 8, 8, 3 }, { dtype = "u8" }), path)
  lucid.image.load(path)
  os.remove(path)
end
lucid.json.decode '{"a": [1, 2]}'
file.hash(folder .. "/commit")
if file.exists(folder .. "/lib/liblucid_net.so") then require "lucid.http".open { base = "http://localhost:9/v1" } end
lucid.randn { 4, 4 }:linear(lucid.randn { 4, 4 })

-- libc's own; what the driver and CUDA bring.
local SYSTEM = { "^libc%.so", "^libm%.so", "^libdl%.so", "^libpthread%.so", "^librt%.so", "^libresolv%.so",
  "^ld%-linux", "^libcuda", "^libnv", "^libcublas", "^libnccl" }

local function is_system(name)
  for _, pattern in ipairs(SYSTEM) do
    if name:find(pattern) then return true end
  end
  return false
end

local own, others, seen = 0, {}, {}
for line in io.lines "/proc/self/maps" do
  local path = line:match "(/%S*%.so[%.%d]*)$"
  if path and not seen[path] then
    seen[path] = true
    if path:find(folder .. "/lib/", 1, true) then own = own + 1
    elseif not is_system(path:match "([^/]*)$") then others[#others + 1] = path end
  end
end
if #others > 0 then error("these are used from outside of the bundle: " .. table.concat(others, ", "), 0) end
print(("%d libraries of the bundle and none of the system's"):format(own))
