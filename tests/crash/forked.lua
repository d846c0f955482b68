-- What the fault-injecting tests share: a train-eval cycle of the smallest model in this process, and processes that are
-- forked from one that has computed nothing yet, so that each case is the first of its process.
local checkpoints = require "lucid.checkpoints"
local ffi = require "ffi"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local lucid = require "lucid"
local native = require "lucid.native"
local training = require "tests.support.training"

ffi.cdef [[
void faults_watch(void); void faults_arm(uint64_t hash, long occurrence, int lasting); void faults_rest(void);
long faults_failed(void); int faults_places(void); long faults_place(int i, uint64_t *hash);
void faults_files(const char *root, const char *log); void faults_fail(const char *calls, int why, long at, int lasting);
long faults_met(void);
int fork(void); int waitpid(int pid, int *status, int options); void _exit(int status); unsigned alarm(unsigned seconds);
]]
local C = ffi.C
local SECONDS = 120           -- a case that hangs is ended

local M = {}

-- What the cycle makes that its numbers stand in.
local MADE = { "train/adapter/adapter_model.safetensors", "train/log.jsonl", "pope/samples.jsonl", "shr/judge.jsonl",
  "shr/samples.jsonl" }

--- Makes the cycle's model and data in DIR.
function M.open()
  if not pcall(function() return C.faults_watch end) then
    error("tests/crash: start it with LD_PRELOAD=build/faults.so (make faults)", 0)
  end
  M.dir = folder.folder()
  training.world(M.dir)
  return M.dir
end

--- Training, POPE and SHR with a judge whose answers are kept in a journal.
---@param at string
---@param resume boolean|nil     goes on with what is there
function M.cycle(at, resume)
  local dir = M.dir
  local common = { model = dir .. "/model", images = dir .. "/world", seed = 7, threads = 1, quiet = true, cache = at .. "/cache",
    batch = 2 }
  local function run(name, more)
    for key, value in pairs(common) do more[key] = more[key] or value end
    lucid.recipe.run(name, more)
  end
  run("llava", { data = dir .. "/pairs", steps = 2, rank = 2, alpha = 4, lr = 1e-2, ["save-steps"] = 1, ["eval-pairs"] = 2,
    resume = resume and "auto" or nil, out = at .. "/train" })
  run("pope", { adapter = at .. "/train/adapter", questions = dir .. "/world/pope/coco_pope_random.json", limit = 3,
    ["max-new-tokens"] = 3, out = at .. "/pope" })
  run("shr", { data = dir .. "/world/shr", limit = 2, ["max-new-tokens"] = 4, beams = 1, judge = "local",
    ["judge-model"] = dir .. "/model", ["judge-retries"] = 0, out = at .. "/shr" })
end

--- What a cycle's results hash to.
function M.hashes(at)
  local list = {}
  for i, name in ipairs(MADE) do list[i] = file.hash(at .. "/" .. name) end
  return table.concat(list, " ")
end

--- What is wrong with the checkpoints of a cycle; nil: nothing.
function M.fault(at)
  for _, step in ipairs(checkpoints.steps(at .. "/train")) do
    local fault = checkpoints.fault(("%s/train/checkpoint-%d"):format(at, step))
    if fault then return ("checkpoint-%d: %s"):format(step, fault) end
  end
end

--- Runs f in a process of its own: what it returned (plain data), or nil and how it ended.
---@param f fun(): any
function M.apart(f)
  local path = M.dir .. "/said"
  os.remove(path)
  io.stdout:flush()
  local pid = C.fork()
  if pid == 0 then
    C.alarm(SECONDS)
    local ok, said = pcall(f)
    local out = io.open(path, "w")
    out:write(json.encode { ok = ok, said = ok and said or tostring(said) })
    out:close()
    C._exit(0)
  end
  local status = ffi.new "int[1]"
  C.waitpid(pid, status, 0)
  if status[0] ~= 0 or not file.exists(path) then return nil, ("it ended with status %d"):format(status[0]) end
  local entry = json.read(path)
  if not entry.ok then return nil, entry.said end
  return entry.said
end

--- Bytes of the core that are still held when all that can be collected is; compiled code holds what it has as constants.
function M.left()
  jit.flush()
  for _ = 1, 4 do collectgarbage() end
  native.C.lc_tensor_adopt(nil)           -- what an op that failed had pending
  return tonumber(lucid.memory().used)
end

--- What is wrong with how a cycle ended, nil where it is nothing: made = { ok, reason, left } of it, whole the same of one
--- without faults, with its results.
function M.wrong(at, made, whole)
  if made.left > whole.left then return ("%d bytes are lost (%s)"):format(made.left - whole.left, made.reason or "no error") end
  if made.ok and M.hashes(at) ~= whole.results then return "it has other results, and no error" end
  if not made.ok and (made.reason:find "\n" or made.reason == "") then return "the error is not one line: " .. made.reason end
  return M.fault(at)
end

--- Goes through cases, or through so many of them, spread over all: try(case) raises what is wrong. Ends the program.
---@param cases table[]
---@param most number|nil
---@param try fun(case: table): string       how it went
function M.all(cases, most, try)
  most = math.min(most or #cases, #cases)
  local counts, faults = {}, 0
  for i = 1, most do
    local case = cases[math.ceil(i * #cases / most)]
    local ok, how = pcall(try, case)
    if not ok then
      faults = faults + 1
      print(("%s: %s"):format(case.name, tostring(how)))
      io.stdout:flush()
      how = "faults"
    end
    counts[how] = (counts[how] or 0) + 1
  end
  local said = {}
  for _, how in ipairs(lucid.keys(counts)) do said[#said + 1] = ("%d %s"):format(counts[how], how) end
  print(("%d of %d cases: %s"):format(most, #cases, table.concat(said, ", ")))
  folder.remove(M.dir)
  os.exit(faults == 0 and 0 or 1)
end

return M
