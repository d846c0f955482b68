-- The smallest whole cycle: training, mining with a judge behind HTTP, POPE, and SHR with that judge. Every command can be
-- killed and given again. All paths in it are relative to its folder, so that the files of two cycles are the same bytes.
local file = require "lucid.file"
local files = require "lucid.tinyworld.files"
local json = require "lucid.json"
local lucid = require "lucid"
local program = require "tests.support.program"
local training = require "tests.support.training"

local M = {}

local MODEL = " --model ../base/model --threads 1 --seed 4 --cache cache --quiet"
local ADAPTED = MODEL .. " --adapter train/adapter --images ../base/world --batch 4 --max-new-tokens 12"
local PROMPT = "../base/prompt.lua"

-- name, words; %s: the options of the judge.
M.COMMANDS = {
  { "train", "llava" .. MODEL .. " --images ../base/world --data ../base/pairs --steps 5 --rank 2 --alpha 4 --lr 1e-2 --batch 2"
    .. " --accumulate 2 --loss bco_pair --eval-pairs 2 --save-steps 1 --resume auto --out train" },
  { "mine", "mine" .. MODEL .. " --images ../base/wild --batch 2 --max-new-tokens 24 --temperature 1 --questions judge --omission 1"
    .. " --verify all --resume --out mine " .. ("--prompt-judge P --prompt-correct P --prompt-rewrite P --prompt-questions P"):gsub("P", PROMPT)
    .. " %s" },
  { "pope", "pope" .. ADAPTED .. " --questions ../base/world/pope/coco_pope_random.json --out pope" },
  { "shr", "shr" .. ADAPTED .. " --data ../base/world/shr --beams 1 --prompt " .. PROMPT .. " --out shr %s" },
}

local function absolute(path, here) return path:sub(1, 1) == "/" and path or here .. "/" .. path end

--- Makes what cycles share: DIR/base.
---@param dir string
function M.base(dir)
  file.mkdir(dir .. "/base")
  training.world(dir .. "/base")
  files.write { dir = dir .. "/base/wild", split = "wild", seed = 3, count = 9, seen = 12 }
  file.write(dir .. "/base/prompt.lua", 'return require "tests.support.talking_prompt"\n')
end

--- The command line of a command of a cycle.
---@param at string          the cycle's folder, which is made
---@param words string
---@param url string         of the judge
---@param before string|nil  what the program is started by
---@return string
function M.line(at, words, url, before)
  file.mkdir(at)
  local here = assert(io.popen "pwd"):read "*l"
  local judge = (" --judge openai --judge-model test --concurrency 3 --base-url %s"):format(url)
  return ("cd %s && LUCID_LIB=%s LUA_PATH='%s/?.lua;;' %s %s %s >>out 2>>stderr"):format(at,
    absolute(os.getenv "LUCID_LIB" or "build/liblucid.so", here), here, before or "", absolute(program, here),
    (words:gsub("%%s", judge)))
end

--- Runs a command of a cycle: its exit status as os.execute has it, and the seconds.
function M.run(at, words, url, before)
  local from = lucid.time()
  local status = os.execute(M.line(at, words, url, before))
  return status, lucid.time() - from
end

-- ---- comparing ----------------------------------------------------------------------------------------

-- What may differ, by name: event files hold the time in their names and records; locks and caches hold no result; and what
-- was printed.
local function is_free(name)
  return name:find "^events%.out%.tfevents" or name == ".lock" or name == "cache" or name == "stderr" or name == "out"
end

local function sorted_lines(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do list[#list + 1] = line end
  table.sort(list)
  return table.concat(list, "\n")
end

-- How a file is compared where not byte by byte.
local READ = {
  -- Answers come in any order.
  ["judge.jsonl"] = function(path) return sorted_lines(file.read(path)) end,
  -- The place in the event file, with its name.
  ["trainer_state.json"] = function(path)
    local state = json.read(path)
    state.log = nil
    return json.encode(state)
  end,
  -- What this process has computed: a cache may have had the rest.
  ["results.json"] = function(path)
    local results = json.read(path)
    results.generation = nil
    return json.encode(results)
  end,
  ["manifest.json"] = function(path)
    local manifest = json.read(path)
    manifest.files["trainer_state.json"] = nil
    return json.encode(manifest)
  end,
}

local function collect(list, root, below)
  for _, name in ipairs(file.list(root .. below)) do
    local path = below .. "/" .. name
    if not is_free(name) then
      if file.kind(root .. path) == "folder" then collect(list, root, path)
      else list[path] = (READ[name] or file.read)(root .. path) end
    end
  end
  return list
end

--- What a cycle has made: { path = text }.
---@param at string
function M.results(at) return collect({}, at, "") end

--- The paths by which two cycles differ, sorted; empty: none.
---@param a table
---@param b table
function M.differences(a, b)
  local list = {}
  for path, text in pairs(a) do
    if b[path] ~= text then list[#list + 1] = path end
  end
  for path in pairs(b) do
    if a[path] == nil then list[#list + 1] = path end
  end
  table.sort(list)
  return list
end

return M
