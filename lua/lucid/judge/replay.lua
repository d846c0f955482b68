-- A judge that answers from a recording: JSON lines { "key": hash of the request, "reply": {...} }.
-- With a judge behind it, what is not recorded is asked and added, so a run that was cut short goes
-- on where it ended and costs nothing twice.
--
--   local judge = lucid.judge.replay { path = "replies.jsonl", judge = other }
local ffi = require "ffi"
local native = require "lucid.native"
local file = require "lucid.file"
local json = require "lucid.json"
local keys = require "lucid.keys"

local C = native.C
local M = {}
local Judge = {}
Judge.__index = Judge

-- JSON text with sorted keys: the same request gives the same text whatever table order is.
local function canonical(v)
  if type(v) ~= "table" then return json.encode(v) end
  local parts = {}
  if #v > 0 or next(v) == nil then
    for i, x in ipairs(v) do parts[i] = canonical(x) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for _, k in ipairs(keys(v)) do
    -- How a request wants to be read is no part of what is asked.
    if type(v[k]) ~= "function" then parts[#parts + 1] = json.encode(k) .. ":" .. canonical(v[k]) end
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

--- The key of a request: the SHA-256 of its fields.
---@param request table
---@return string
function M.key(request)
  local text = canonical(request)
  local hex = ffi.new("char[65]")
  native.check(C.lc_sha256(text, #text, hex))
  return ffi.string(hex, 64)
end

--- The judge.
---@param opt table    path: the recording; judge: whom to ask what it lacks (optional)
---@return table
function M.new(opt)
  if not opt.path then error("judge replay: needs path, the recording", 2) end
  -- From a recipe's options, judge is this one's own name.
  local behind = type(opt.judge) == "table" and opt.judge or nil
  local self = setmetatable({ path = opt.path, judge = behind, replies = {} }, Judge)
  if file.exists(opt.path) then
    local number = 0
    for line in file.read(opt.path):gmatch("[^\n]+") do
      number = number + 1
      local record = json.decode(line, opt.path)
      if type(record) ~= "table" or type(record.key) ~= "string" or type(record.reply) ~= "table" then
        error(("%s: record %d has no 'key' and 'reply'"):format(opt.path, number), 0)
      end
      self.replies[record.key] = record.reply
    end
  elseif not behind then
    error(("judge replay: there is no %s"):format(opt.path), 0)
  end
  return self
end

--- Answers requests, in their order.
---@param requests table[]
---@return table[]
function Judge:ask(requests)
  local replies, missing, at, asked = {}, {}, {}, {}
  for i, request in ipairs(requests) do
    asked[i] = M.key(request)
    replies[i] = self.replies[asked[i]]
    if not replies[i] then
      if not self.judge then
        error(("judge replay: %s holds no reply to request %d (%s, image %s)"):format(self.path, i,
          tostring(request.kind), tostring(request.image_id)), 0)
      end
      missing[#missing + 1], at[#at + 1] = request, i
    end
  end
  if #missing == 0 then return replies end
  local lines = {}
  for k, reply in ipairs(self.judge:ask(missing)) do
    local i = at[k]
    replies[i], self.replies[asked[i]] = reply, reply
    lines[k] = json.encode { key = asked[i], reply = reply } .. "\n"
  end
  local text = table.concat(lines)
  native.check(C.lc_file_append(self.path, text, #text, 1))
  return replies
end

return setmetatable(M, { __call = function(_, opt) return M.new(opt) end })
