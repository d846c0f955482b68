-- Mutates files of torch.save for some seconds and opens what comes out; made for the sanitizers' builds:
--   bin-asan/lucid tests/fuzz/torchfile.lua [seconds] [seed] [more files ...]
-- What is found is the sanitizer's to say. The input of the moment is in the file whose path is printed first.
local lucid = require "lucid"

local seconds, seed = tonumber(arg[1]) or 20, tonumber(arg[2]) or os.time()
local GOLDEN = "tests/golden/torchfile/"
local seeds = {}

-- Without the sums of the zip's entries, so that changes of the pickle are not found by them.
local function without_sums(s)
  return (s:gsub("PK\1\2" .. ("."):rep(12) .. "....", function(record) return record:sub(1, 16) .. "\0\0\0\0" end))
end

for _, name in ipairs { "alone", "attributed", "attributed_before16", "before16", "metadata", "nested", "plain", "protocol4", "young" } do
  seeds[#seeds + 1] = without_sums(assert(lucid.file.read(GOLDEN .. name .. ".pth")))
end
for i = 3, #arg do seeds[#seeds + 1] = without_sums(assert(lucid.file.read(arg[i]))) end

math.randomseed(seed)
local random = math.random
-- Numbers that tend to be wrong, and every instruction of pickle as a byte.
local WORDS = { "\255\255\255\255", "\0\0\0\0", "\255\255\255\127", "\0\0\0\128", "\255\255\255\255\255\255\255\127",
  "PK\1\2", "PK\3\4", "PK\5\6", "PK\6\6", "PK\6\7" }
local OPS = "().02FIJKLMNPQRSTUVX]abcdeghijlopqrstu}\128\129\130\131\132\133\134\135\136\137\138\139\140\141\142\143"
  .. "\144\145\146\147\148\149\150"

local function mutated(s)
  local other = seeds[random(#seeds)]
  for _ = 1, random(4) do
    local at, n = random(#s), random(12)
    local how = random(8)
    local middle
    if how == 1 then middle = string.char(random(256) - 1)
    elseif how == 2 then middle = string.char((s:byte(at) + random(7) - 4) % 256)
    elseif how == 3 then middle, n = WORDS[random(#WORDS)], 0
    elseif how == 4 then middle = WORDS[random(#WORDS)]
    elseif how == 5 then middle = OPS:sub(random(#OPS)):sub(1, 1)
    elseif how == 6 then middle, n = s:sub(at, at + random(40)), random(2) * 20 - 20
    elseif how == 7 then
      local from = random(#other)
      middle = other:sub(from, from + n - 1)
    else middle = "" end
    if how < 3 or how == 5 then n = 1 elseif how == 4 then n = #middle end
    s = s:sub(1, at - 1) .. middle .. s:sub(at + n)
    if #s == 0 then s = other end
  end
  if random(16) == 1 then s = s:sub(1, random(#s)) end
  return s
end

local path = os.tmpname()
print(("%s, seed %d"):format(path, seed))
local runs, opened, loaded = 0, 0, 0
local from = os.time()
while os.time() - from < seconds do
  local f = assert(io.open(path, "wb"))
  f:write(mutated(seeds[random(#seeds)]))
  f:close()
  local ok, c = pcall(lucid.checkpoint, path)
  runs = runs + 1
  if ok then
    opened = opened + 1
    lucid.scope(function()
      for _, name in ipairs(c:names()) do loaded = loaded + (pcall(function() c:tensor(name):tolist() end) and 1 or 0) end
    end)
  elseif not c:find(path .. ": ", 1, true) and not c:find("memory", 1, true) then
    print("an error without the file's name: " .. c)
    os.exit(1)
  end
  if runs % 500 == 0 then collectgarbage() end
end
os.remove(path)
print(("%d files, %d opened, %d tensors loaded"):format(runs, opened, loaded))
