-- A judge that talks as a language model does: it reads nothing but the request, words its answers in its own way, and
-- now and then says something that cannot be read, refuses, or fails. What it says is a function of the request.
--   lucid mine --judge tests/support/talker.lua
local lucid = require "lucid"

local Judge = {}
Judge.__index = Judge

-- A number in [0, 1) that a request and a purpose stand for.
local function chance(r, purpose)
  local name = ("%s:%s:%s:%s:%s"):format(purpose, r.kind, tostring(r.image_id), table.concat(r.sentences, "."), tostring(r.sample))
  return lucid.rng(5, name):uniform()
end

local function labels(r)
  local lines = { "Let me see.", "Judgement:" }
  for i in ipairs(r.sentences) do
    local label = i % 2 == 1 and r.kind == "correct" and "Hallucination" or "correct"
    lines[#lines + 1] = ("%d. %s: so it seems"):format(i, label)
  end
  return table.concat(lines, "\n")
end

local function things(r)
  local list = {}
  for i, o in ipairs(r.objects or {}) do list[i] = ("There is a %s"):format(o.name) end
  return table.concat(list, ". ") .. (#list > 0 and "." or "")
end

local SAY = {
  judge = labels,
  correct = function(r) return labels(r) .. "\nDescription:\n" .. things(r) end,
  rewrite = function(r)
    local lines = { "Here you are:" }
    for k = 1, r.variants do
      lines[#lines + 1] = ("%d. %s"):format(k, "I see this: " .. ("indeed "):rep(k) .. table.concat(r.sentences, ". ") .. ".")
    end
    return table.concat(lines, "\n\n")
  end,
  questions = function(r)
    local lines = {}
    for k, o in ipairs(r.objects) do
      if k > r.present then break end
      lines[#lines + 1] = ("%d. Is there a %s in the image? | Yes | Yes, there is a %s. | No, there is no %s."):format(k, o.name,
        o.name, o.name)
    end
    for k = 1, r.absent do
      lines[#lines + 1] = ("%d. Is there a unicorn %d? | no | No, there is none. | Yes, there is one."):format(r.present + k, k)
    end
    return table.concat(lines, "\n")
  end,
}

-- What is said to a request.
local function reply_to(r)
  local whole, luck = SAY[r.kind](r), chance(r, "luck")
  if luck < 0.1 then return { text = whole:sub(1, math.floor(#whole / 3)) } end
  if luck < 0.15 then return { text = "I am sorry, I cannot help with that." } end
  if luck < 0.18 then return { refused = "not about this picture" } end
  if luck < 0.2 then return { error = "503" } end
  if luck < 0.25 then return { text = "Judgement:\n\n\nDescription" } end
  return { text = whole }
end

function Judge.ask(_, requests)
  local replies = {}
  for i, r in ipairs(requests) do
    assert(type(r.text) == "string" and #r.text > 100, "a language model needs a prompt")
    replies[i] = reply_to(r)
  end
  return replies
end

return { new = function() return setmetatable({}, Judge) end, reply_to = reply_to }
