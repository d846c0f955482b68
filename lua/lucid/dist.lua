-- Several processes: `mpirun -n N lucid llava ...` starts one program N times, each with the whole model. A process is
-- a rank, from 0; rank 0 alone writes the run's folder and speaks. All ranks draw the same batches, each computes its
-- share of them, and the gradients of the shares are summed: the update is one process's up to rounding, and the
-- same bits on every rank and in every run.
--
--   dist.join(opt)                              -- at a recipe's start: threads, and MPI if there are processes
--   local mine = dist.share(batch, { tokens = tokens_of })
--   ... backward ...   dist.reduce(parameters)   stats = dist.sum(stats)
local ffi = require "ffi"
local json = require "lucid.json"
local native = require "lucid.native"
local tensor = require "lucid.tensor"

local C = native.C
local M = {}

--- What recipes that work in several processes share (groups = { lucid.dist.OPTIONS }).
M.OPTIONS = { title = "several processes (mpirun -n N lucid ...)",
  { "sync", "all_reduce", "all_reduce: one update from all; none: each for itself, rank 0 is saved (the published programs' slip)",
    { choices = "all_reduce none" } },
}

local apart = false           -- --sync none

--- This process's number, from 0.
---@return integer
function M.rank() return C.lc_comm_rank() end

--- How many processes there are.
---@return integer
function M.size() return C.lc_comm_size() end

--- Whether this process is the one that writes and speaks.
---@return boolean
function M.first() return C.lc_comm_rank() == 0 end

-- ---- joining ------------------------------------------------------------------------------------

-- Who starts processes says how many, each in its own way: Open MPI, other MPIs' managers, srun.
local SIZES = { "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS" }

--- How many processes this one was started with, by the word of mpirun or srun; nil: it was started alone.
---@return integer|nil
function M.started()
  for _, name in ipairs(SIZES) do
    local n = tonumber(os.getenv(name))
    if n and (n > 1 or name ~= "SLURM_STEP_NUM_TASKS") then return n end
  end
end

-- The threads of a process: those asked for, else its part of the machine's cores and no more than it may use.
local function threads_of(asked)
  C.lc_threads(0)
  local may = C.lc_threads_used()
  if asked > 0 then return asked, may end
  return math.max(1, math.min(may, math.floor(C.lc_cores() / C.lc_comm_local()))), may
end

-- Every rank's text, in their order.
local function gather(text)
  local lengths, list, at = ffi.new("int64_t[?]", M.size()), {}, 0
  local all = native.check(C.lc_comm_gather(text, #text, lengths))
  for rank = 0, M.size() - 1 do
    local n = tonumber(lengths[rank])
    list[rank + 1] = ffi.string(all + at, n)
    at = at + n
  end
  C.lc_free_bytes(all)
  return list
end

-- What rank 0 says of the ranks' threads; warnings where a rank is bound to fewer cores.
local function say(threads, may, quiet)
  local list = gather(("%d %d"):format(threads, may))
  if quiet or not M.first() then return end
  io.stderr:write(("processes: %d, with %d thread%s each; %d of them on this machine of %d cores%s\n"):format(M.size(), threads,
    threads == 1 and "" or "s", C.lc_comm_local(), C.lc_cores(), apart and "; --sync none: each for itself" or ""))
  local short = {}
  for rank, text in ipairs(list) do
    local own, cores = text:match("(%d+) (%d+)")
    if tonumber(cores) < tonumber(own) then short[#short + 1] = ("%d (%s)"):format(rank - 1, cores) end
  end
  if #short > 0 then
    io.stderr:write(("processes: fewer cores than threads for rank %s; mpirun --bind-to none, or --map-by slot:PE=%d, gives more\n")
      :format(table.concat(short, ", "), threads))
  end
end

-- Every rank computes on a GPU of its own, or all on the host: what each has, in a line, is what the others see of it.
local function settle(name)
  local device, lacks = native.device(name), ""
  if device == C.LC_HOST then lacks = ffi.string(C.lc_error()) end
  local owner = {}
  for rank, text in ipairs(gather(("%s\n%s\n%s"):format(native.device_name(device), ffi.string(C.lc_device_identity()), lacks))) do
    local where, identity, reason = text:match("^(.-)\n(.-)\n(.*)$")
    if (where == "cpu") ~= (device == C.LC_HOST) then
      error(("process %d computes on %s and process %d on %s (%s); give each a GPU, or all --device cpu"):format(M.rank(),
        native.device_name(device), rank - 1, where, where == "cpu" and reason or lacks), 0)
    end
    if identity ~= "" and owner[identity] then
      error(("processes %d and %d have one GPU, %s of their machine; start one process for each GPU, or give --device cpu")
        :format(owner[identity], rank - 1, where), 0)
    end
    owner[identity] = rank - 1
  end
end

--- Sets the threads of a run, and joins the processes that this one was started with, if it was. MPI is not touched
--- otherwise. Ranks behind the first become quiet.
--- Where there are several on a machine, the device "cuda" is the GPU of the process's number there.
---@param opt table      { threads, quiet, sync, device }
function M.join(opt)
  local started = M.started()
  if started then
    native.check(C.lc_comm_join())
    if M.size() ~= started then
      error(("%d processes were started but MPI knows of %d; start them with mpirun, or with srun --mpi=pmix"):format(started,
        M.size()), 0)
    end
  end
  apart = opt.sync == "none"
  local threads, may = threads_of(opt.threads)
  C.lc_threads(threads)
  if started then
    say(threads, may, opt.quiet)
    if opt.device ~= nil and opt.device ~= "cpu" then settle(opt.device) end
  end
  if not M.first() then opt.quiet = true end
end

-- ---- shares -------------------------------------------------------------------------------------

--- Deals work out: for each of the costs the number, from 1, of the one of n who has it. The dearest first, each to
--- who has least so far: a function of the costs alone.
---@param costs number[]
---@param n integer
---@return integer[]
function M.deal(costs, n)
  local order, load, owner = {}, {}, {}
  for i = 1, #costs do order[i] = i end
  table.sort(order, function(a, b)
    if costs[a] ~= costs[b] then return costs[a] > costs[b] end
    return a < b
  end)
  for k = 1, n do load[k] = 0 end
  for _, i in ipairs(order) do
    local least = 1
    for k = 2, n do
      if load[k] < load[least] then least = k end
    end
    owner[i], load[least] = least, load[least] + costs[i]
  end
  return owner
end

---@class lucid.ShareOptions
---@field tokens fun(sample: any, first: boolean): number   what a sample costs; first: of those that stay together
---@field key (fun(sample: any): any)|nil   samples of one key stay together; nil: all may part

--- A batch's samples by who computes them, in the batch's order: n lists, some of them empty where samples are few.
---@param batch any[]
---@param n integer
---@param opt lucid.ShareOptions
---@return any[][]
function M.shares(batch, n, opt)
  local unit, costs, of = {}, {}, {}
  for i, sample in ipairs(batch) do
    local key = opt.key and opt.key(sample)
    local first = key == nil or not of[key]
    if first then costs[#costs + 1] = 0 end
    unit[i] = first and #costs or of[key]
    if key ~= nil then of[key] = unit[i] end
    costs[unit[i]] = costs[unit[i]] + opt.tokens(sample, first)
  end
  local owner, lists = M.deal(costs, n), {}
  for k = 1, n do lists[k] = {} end
  for i, sample in ipairs(batch) do table.insert(lists[owner[unit[i]]], sample) end
  return lists
end

--- This rank's share of a batch, and the batch that it is a share of: by whose size its loss is a mean. The share of
--- a batch that has too few samples is empty.
---@param batch any[]
---@param opt lucid.ShareOptions
---@return any[], any[]
function M.share(batch, opt)
  local own = M.shares(batch, M.size(), opt)[M.rank() + 1]
  if not apart then return own, batch end
  if #own == 0 then own = { batch[1] } end      -- who works for itself has something to do in every step
  return own, own
end

-- ---- work that is handed out --------------------------------------------------------------------

local taken = 0               -- numbers of the ranks' common row that earlier work has used

--- Does n pieces of work, each on the rank that is free first, and gives all results to every rank, in the pieces'
--- order. A result that comes from another rank is what JSON keeps of it.
---@param n integer
---@param work fun(i: integer): any     piece i, from 1; its result is no nil
---@param done fun(i: integer)|nil      called with a piece's number when this rank has done it
---@return any[]
function M.hand_out(n, work, done)
  local results, own = {}, {}
  if M.size() == 1 then
    for i = 1, n do
      results[i] = work(i)
      if done then done(i) end
    end
    return results
  end
  while true do
    local number = tonumber(C.lc_comm_take())
    if number < 0 then native.fail() end
    local i = number - taken + 1
    if i > n then break end
    results[i] = work(i)
    own[#own + 1] = { i, results[i] }
    if done then done(i) end
  end
  taken = taken + n + M.size()           -- every rank has taken one number in vain
  for rank, text in ipairs(gather(json.encode(json.array(own)))) do
    for _, pair in ipairs(rank - 1 == M.rank() and {} or json.decode(text)) do results[pair[1]] = pair[2] end
  end
  return results
end

-- ---- together -----------------------------------------------------------------------------------

--- Waits until every rank is here.
function M.wait() native.check(C.lc_comm_barrier()) end

--- Calls f(...) on every rank, one after the other.
---@param f function
---@param ... any
function M.in_turn(f, ...)
  for rank = 0, M.size() - 1 do
    if rank == M.rank() then f(...) end
    M.wait()
  end
end

--- The ranks' numbers added up by name, in the ranks' order, the same bits on all; a name that a rank lacks counts 0.
---@param numbers table<string, number>
---@return table<string, number>
function M.sum(numbers)
  if apart then return numbers end
  local lines = {}
  for name, value in pairs(numbers) do lines[#lines + 1] = ("%s\t%.17g\n"):format(name, value) end
  local total = {}
  for _, text in ipairs(gather(table.concat(lines))) do
    for name, value in text:gmatch("([^\t\n]*)\t([^\n]*)\n") do total[name] = (total[name] or 0) + tonumber(value) end
  end
  return total
end

--- Whether a signal waits on any rank, in which case it waits on all: they stop at the same place. Ranks that work for
--- themselves wait for each other here, too.
---@return boolean
function M.stopping()
  for _, text in ipairs(gather(tostring(C.lc_signal_noted()))) do
    if text ~= "0" and not native.signalled() then C.lc_signal_note(tonumber(text)) end
  end
  return native.signalled()
end

-- Calls one of the functions that change tensors of all ranks.
local function together(f, list)
  local pointers = ffi.new("lc_tensor *[?]", math.max(#list, 1))
  for i, t in ipairs(list) do pointers[i - 1] = t end
  native.check(f(pointers, #list))
end

--- Sums the gradients of parameters over the ranks. A parameter that no rank has a gradient of stays without one.
---@param parameters table[]     { name, tensor }, the same on every rank
function M.reduce(parameters)
  if apart then return end
  local flags, there = {}, {}
  for i, p in ipairs(parameters) do flags[i] = p.tensor.grad and "1" or "0" end
  for _, text in ipairs(gather(table.concat(flags))) do
    for i in text:gmatch("()1") do there[i] = true end
  end
  local list = {}
  for i, p in ipairs(parameters) do
    if there[i] then
      if flags[i] == "0" then
        native.scope(function() p.tensor.grad = tensor.zeros(p.tensor:shape(), { device = p.tensor:device() }) end)
      end
      list[#list + 1] = p.tensor.grad
    end
  end
  together(C.lc_comm_sum, list)
end

--- Gives all ranks the first one's values: they begin alike, whatever they were made from.
---@param parameters table[]
function M.broadcast(parameters)
  local list = {}
  for i, p in ipairs(parameters) do list[i] = p.tensor end
  together(C.lc_comm_broadcast, list)
end

return M
