-- Stage 2: the model describes every picture. What it makes up there is what it is trained not to say.
local hadpo = require "lucid.data.hadpo"
local image = require "lucid.image"
local native = require "lucid.native"
local progress = require "lucid.progress"
local rng = require "lucid.rng"

local M = {
  from = { "select" }, weights = true,
  options = { "model", "vision", "bridge", "bert", "adapter", "device", "dtype", "quant", "template", "seed" },
}
for name in require("lucid.generate").OPTIONS:gmatch "%S+" do table.insert(M.options, name) end

--- The instruction that a picture is described under: one of the published four.
---@param seed integer
---@param id integer
---@return string
function M.instruction(seed, id)
  return hadpo.INSTRUCTIONS[rng(seed, "mine:ask:" .. id):integer(#hadpo.INSTRUCTIONS)]
end

-- Why a picture cannot be described, or nil.
local function fault(path)
  local ok, reason = pcall(native.scope, function() image.load(path) end)
  return not ok and tostring(reason) or nil
end

-- Answers to requests; under --skip-bad every picture is looked at first, and the answer of one that cannot be read is
-- { fault = reason }.
local function answers_to(run, requests)
  if not run.opt.skip_bad then return run:generate(requests) end
  local good, at, list = {}, {}, {}
  for i, r in ipairs(requests) do
    local reason = fault(r.image)
    if reason then
      list[i] = { fault = reason }
    else
      good[#good + 1], at[#at + 1] = r, i
    end
  end
  for k, a in ipairs(#good > 0 and run:generate(good) or {}) do list[at[k]] = a end
  return list
end

--- One line of each input, in the same order.
---@param run lucid.Mining
---@param inputs table[]
---@return table[]
function M.work(run, inputs)
  local requests, list = {}, {}
  for i, input in ipairs(inputs) do
    requests[i] = { image_id = input.image_id, image = input.image, prompt = M.instruction(run.opt.seed, input.image_id),
      stream = input.image_id }
  end
  for i, a in ipairs(answers_to(run, requests)) do
    local id = inputs[i].image_id
    if a.fault then
      list[i] = { image_id = id, left_out = "unreadable picture", reply = a.fault }
    elseif not a.text:find "%w" then
      list[i] = { image_id = id, left_out = "nothing said", reply = a.text }
    else
      list[i] = { image_id = id, question = requests[i].prompt, response = a.text }
    end
  end
  return list
end

--- What the report and the form of the files go by.
---@param run lucid.Mining
---@return table
function M.facts(run) return { kind = run:model().kind } end

--- Lets the model describe records' pictures, in Lua of one's own; its text becomes record.response.
---@param model table
---@param records table[]
---@param opt table        batch, seed, quiet; generate: lucid.GenerateOptions; record.question is asked, else the first instruction
function M.records(model, records, opt)
  local requests = {}
  for i, r in ipairs(records) do requests[i] = { image = r.image, prompt = r.question or hadpo.INSTRUCTIONS[1] } end
  local bar = progress { total = math.max(#records, 1), label = "describe", unit = "pictures", quiet = opt.quiet }
  local before = 0
  local settings = { batch = opt.batch, seed = opt.seed, progress = function(done)
    bar:step(done, { count = done - before })
    before = done
  end }
  for name, value in pairs(opt.generate or {}) do settings[name] = value end
  local answers = model:generate_all(requests, settings)
  bar:done()
  for i, r in ipairs(records) do r.response = answers[i].text end
end

return M
