-- What answers cost, and what more may be spent. Tokens of answers that are kept are counted; a request that is
-- about to be sent sets aside what it can cost at most, so that a limit is not passed by what is in flight.
--
--   local b = budget { model = "gpt-4", max_cost = 5 }
--   b:count(usage)                                       -- of every answer that the journal has
--   if not b:fits(estimate) then b:send(estimate) end    -- then b:came(estimate), and b:keep(usage) once it is kept
local M = {}
local Budget = {}
Budget.__index = Budget

-- Dollars for a million tokens of prompts and of answers: OpenAI's list of 2025. Options take their place.
M.PRICES = {
  ["gpt-3.5-turbo"] = { 0.5, 1.5 }, ["gpt-4"] = { 30, 60 }, ["gpt-4-turbo"] = { 10, 30 }, ["gpt-4o"] = { 2.5, 10 },
  ["gpt-4o-mini"] = { 0.15, 0.6 }, ["gpt-4.1"] = { 2, 8 }, ["gpt-4.1-mini"] = { 0.4, 1.6 }, ["gpt-4.1-nano"] = { 0.1, 0.4 },
}

local BATCH = 0.5             -- of the price, by a batch file

-- "gpt-4-0613" and "gpt-4o-2024-08-06" cost what their family does.
local function price_of(model)
  return M.PRICES[model] or M.PRICES[model:gsub("%-%d[%d%-]*$", "")]
end

--- A budget of which nothing is spent yet.
---@param opt table     model, max_cost, max_requests, price_in, price_out
---@return table
function M.new(opt)
  local list = price_of(opt.model) or {}
  local self = { max_cost = opt.max_cost, max_requests = opt.max_requests, price_in = opt.price_in or list[1],
    price_out = opt.price_out or list[2], answers = 0, prompt = 0, completion = 0, cost = 0, aside = 0, sent = 0 }
  if self.max_cost and not (self.price_in and self.price_out) then
    error(("--max-cost: the price of '%s' is not known; give --price-in and --price-out"):format(opt.model), 0)
  end
  return setmetatable(self, Budget)
end

local function dollars(self, prompt, completion)
  return (prompt * (self.price_in or 0) + completion * (self.price_out or 0)) / 1e6
end

--- Counts an answer of the journal.
---@param usage table       prompt_tokens, completion_tokens
---@param batch boolean|nil
function Budget:count(usage, batch)
  local prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
  self.answers = self.answers + 1
  self.prompt, self.completion = self.prompt + prompt, self.completion + completion
  self.cost = self.cost + dollars(self, prompt, completion) * (batch and BATCH or 1)
end

--- Why a request may not be sent, or nil.
---@param estimate table    prompt, completion: most tokens
---@return string
function Budget:fits(estimate)
  if self.max_requests and self.answers + self.sent >= self.max_requests then
    return ("--max-requests %d is reached"):format(self.max_requests)
  end
  local most = dollars(self, estimate.prompt, estimate.completion)
  if self.max_cost and self.cost + self.aside + most > self.max_cost then
    return ("--max-cost %g leaves too little for the next request: $%.4f are spent, it may cost $%.4f"):format(
      self.max_cost, self.cost, most)
  end
end

--- Sets aside what a request that is sent can cost.
---@param estimate table
function Budget:send(estimate)
  self.aside = self.aside + dollars(self, estimate.prompt, estimate.completion)
  self.sent = self.sent + 1
end

--- Its answer is here, or none will come.
---@param estimate table
function Budget:came(estimate)
  self.aside = math.max(0, self.aside - dollars(self, estimate.prompt, estimate.completion))
end

--- The answer to a request that was sent is kept.
---@param usage table
function Budget:keep(usage)
  self.sent = self.sent - 1
  self:count(usage)
end

--- "$0.1234 for 1,200 + 300 tokens", or without prices the tokens alone.
---@return string
function Budget:text()
  local tokens = ("%d prompt and %d answer tokens"):format(self.prompt, self.completion)
  return self.price_in and self.price_out and ("$%.4f for %s"):format(self.cost, tokens) or tokens
end

return setmetatable(M, { __call = function(_, opt) return M.new(opt) end })
