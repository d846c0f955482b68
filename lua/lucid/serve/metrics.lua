-- What a server counts, as Prometheus reads it (text format 0.0.4).
local M = {}
local Metrics = {}
Metrics.__index = Metrics

local BOUNDS = { 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60 }     -- seconds

local function histogram() return { sum = 0, count = 0, buckets = {} } end

--- Counters that begin at 0.
---@return table
function M.new()
  return setmetatable({ answers = {}, prompt_tokens = 0, completion_tokens = 0, left = 0, broken = 0,
    first_token = histogram(), request = histogram() }, Metrics)
end

--- An answer with a status was sent.
---@param status integer
function Metrics:answered(status) self.answers[status] = (self.answers[status] or 0) + 1 end

--- Seconds go into a histogram: "first_token" or "request".
---@param name string
---@param seconds number
function Metrics:observe(name, seconds)
  local h = self[name]
  h.sum, h.count = h.sum + seconds, h.count + 1
  for i, bound in ipairs(BOUNDS) do
    if seconds <= bound then h.buckets[i] = (h.buckets[i] or 0) + 1 end
  end
end

local function write_histogram(lines, name, help, h)
  lines[#lines + 1] = ("# HELP %s %s\n# TYPE %s histogram"):format(name, help, name)
  for i, bound in ipairs(BOUNDS) do
    lines[#lines + 1] = ('%s_bucket{le="%g"} %d'):format(name, bound, h.buckets[i] or 0)
  end
  lines[#lines + 1] = ('%s_bucket{le="+Inf"} %d'):format(name, h.count)
  lines[#lines + 1] = ("%s_sum %.6f\n%s_count %d"):format(name, h.sum, name, h.count)
end

--- The text.
---@param now table[]     { name, "gauge" or "counter", help, value, label text or nil }: what is read off elsewhere
---@return string
function Metrics:text(now)
  local lines, known = {}, {}
  local function value(name, kind, help, v, label)
    if not known[name] then
      lines[#lines + 1] = ("# HELP %s %s\n# TYPE %s %s"):format(name, help, name, kind)
      known[name] = true
    end
    lines[#lines + 1] = ("%s%s %.17g"):format(name, label or "", v)
  end
  for status, n in pairs(self.answers) do
    value("lucid_responses_total", "counter", "Answers to requests by status.", n, ('{status="%d"}'):format(status))
  end
  value("lucid_prompt_tokens_total", "counter", "Tokens of prompts, pictures' rows with them.", self.prompt_tokens)
  value("lucid_completion_tokens_total", "counter", "Tokens of answers.", self.completion_tokens)
  value("lucid_clients_left_total", "counter", "Clients that left before their answer was whole.", self.left)
  value("lucid_streams_broken_total", "counter", "Streams that ended with an error.", self.broken)
  for _, entry in ipairs(now) do value(unpack(entry)) end
  write_histogram(lines, "lucid_first_token_seconds", "From a request's arrival to its first token.", self.first_token)
  write_histogram(lines, "lucid_request_seconds", "From a request's arrival to its whole answer.", self.request)
  return table.concat(lines, "\n") .. "\n"
end

return M
