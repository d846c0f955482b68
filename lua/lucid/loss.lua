-- lucid.loss.NAME(policy, reference, opt) -> loss, stats: one file each in loss/, or a .lua file of the user's own.
-- A weighted sum is a name, too: lucid.loss["sigmoid:0.8,bco_pair:0.2,sft:1"], which is MPO (Wang et al. 2024).
local native = require "lucid.native"
local plug = require "lucid.plug"
local preference = require "lucid.preference"

local M = {}

local find, check_name = plug "loss", plug.check "loss"

-- "a number", or the sizes of a tensor: what a user's function has given in place of what was asked for.
local function shown(v)
  return native.is_tensor(v) and ("a tensor of %d elements"):format(v:count()) or "a " .. type(v)
end

local function is_one(v) return native.is_tensor(v) and v:count() == 1 end

-- A user's own function: a tensor of one number comes back, and a table of what to log if it likes.
local function own(name, f)
  return function(policy, reference, opt)
    local value, stats = f(policy, reference, opt)
    if not is_one(value) then
      error(("loss %s: it returns %s, not a tensor of one number"):format(name, shown(value)), 0)
    end
    stats = stats or {}
    if type(stats) ~= "table" then
      error(("loss %s: what it logs is %s, not a table of numbers by their names"):format(name, shown(stats)), 0)
    end
    for key, v in pairs(stats) do
      if type(key) ~= "string" or type(v) ~= "number" and not is_one(v) then
        error(("loss %s: it logs %s as '%s'; numbers by their names are possible"):format(name, shown(v), tostring(key)), 0)
      end
    end
    return value, stats
  end
end

---@class lucid.LossTerm
---@field name string
---@field loss any          what lucid.preference made, or a function
---@field weight number

-- "NAME:WEIGHT,NAME" as a list of { name, weight }; a weight that is not given is 1.
local function items_of(text)
  local items = {}
  for item in text:gmatch("[^,]+") do
    item = item:match("^%s*(.-)%s*$")
    local name, weight = item:match("^(.+):(%d[%d.eE+-]*)$")
    weight = name and tonumber(weight) or 1
    if weight <= 0 then error(("loss '%s': a weight is above 0"):format(item), 0) end
    items[#items + 1] = { name = name or item, weight = weight }
  end
  if #items == 0 then error("a loss's name is expected, or NAME:WEIGHT,NAME:WEIGHT", 0) end
  return items
end

-- The same with the losses themselves.
---@return lucid.LossTerm[]
local function terms_of(text)
  local terms = items_of(text)
  for _, term in ipairs(terms) do
    local loss = find[term.name]
    term.loss = type(loss) == "function" and own(term.name, loss) or loss
  end
  return terms
end

--- Raises one line when a text names no loss, or no sum of losses. Files of the user's own are not looked into.
---@param text string
function M.check_names(text)
  for _, item in ipairs(items_of(text)) do check_name(item.name) end
end

-- A function is a user's own: it knows itself what it takes, and what the others of a sum take is not judged then.
local function check(terms, opt)
  local losses = {}
  for i, term in ipairs(terms) do
    if type(term.loss) == "function" then return end
    losses[i] = term.loss
  end
  preference.check(losses, opt)
end

--- Raises one line when an option is wrong, or when none of a sum's losses makes something of it.
---@param text string       a name, a .lua file, or a sum of them
---@param opt table
function M.check(text, opt) check(terms_of(text), opt) end

--- Which of a sum's losses make of a pair something that depends on the others of its batch; nil: none does. A
--- function, a user's own, may do anything.
---@param text string       a name, a .lua file, or a sum of them
---@param opt table
---@param across boolean|nil    only those that do not sum over processes what they need to know of the others
---@return string|nil
function M.joint(text, opt, across)
  for _, term in ipairs(terms_of(text)) do
    local loss = term.loss
    if type(loss) == "function" or loss:joint(opt) and not (across and loss.across) then return term.name end
  end
end

-- The sum as one loss. It logs what its first loss logs, and each term's value as loss/NAME.
local function sum_of(terms)
  return function(policy, reference, opt)
    opt = opt or {}
    check(terms, opt)
    local total, logged
    for _, term in ipairs(terms) do
      local value, stats
      if type(term.loss) == "function" then value, stats = term.loss(policy, reference, opt)
      else value, stats = term.loss:run(policy, reference, opt) end
      logged = logged or stats or {}
      logged["loss/" .. term.name] = value
      total = total and total + value * term.weight or value * term.weight
    end
    return total, logged
  end
end

local known = plug.cache()

return setmetatable(M, { __index = function(_, text)
  if known[text] then return known[text] end
  local loss
  if type(text) == "string" and text:find("[,:]") and not text:find("%.lua$") then
    loss = sum_of(terms_of(text))
  else
    loss = find[text]
    if type(loss) == "function" then loss = own(text, loss) end
  end
  known[text] = loss
  return loss
end })
