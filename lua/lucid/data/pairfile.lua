-- HA-DPO's two files, written record by record: desc_data.json and pope_data.json, in the form that is
-- published for each model. lucid.data.hadpo reads them all.
--
--   local out = pairfile.open(dir, "llava")
--   out:description { image_id = 7, chosen = {...}, rejected = {...} }
--   out:question { image_id = 7, question =, answer =, chosen =, rejected =, correct = }
--   out:close()                                   -- both files are there now, whole, and not before
local file = require "lucid.file"
local json = require "lucid.json"

local M = {}
local Out = {}
Out.__index = Out

---@class lucid.PairForm
---@field by_id boolean|nil     descriptions are an object by the picture's id, not a list
---@field rejected string       what the rejected answer of a question is called
---@field answer boolean|nil    questions say the right answer
---@field correct boolean|nil   and whether the model gave it already

--- list has all that the others have; it is no model's own.
---@type table<string, lucid.PairForm>
M.FORMS = {
  list = { rejected = "reject", answer = true, correct = true },
  llava = { by_id = true, rejected = "reject", answer = true, correct = true },
  minigpt4 = { rejected = "reject", answer = true },
  instructblip = { rejected = "rejected", correct = true },
}

-- One JSON file in parts: "[", records, "]".
local Part = {}
Part.__index = Part

local FULL = 2 ^ 20          -- bytes that are written together

local function part(path, open, close)
  file.write(path .. ".part", open)
  return setmetatable({ path = path, closing = close, pieces = {}, bytes = 0, count = 0 }, Part)
end

--- Hands what was collected to the file.
---@param sync boolean
function Part:flush(sync)
  file.append(self.path .. ".part", table.concat(self.pieces), sync)
  self.pieces, self.bytes = {}, 0
end

--- Adds a record's text.
---@param text string
function Part:add(text)
  text = (self.count > 0 and ",\n" or "\n") .. text
  self.pieces[#self.pieces + 1], self.bytes, self.count = text, self.bytes + #text, self.count + 1
  if self.bytes > FULL then self:flush() end
end

--- Ends the list; only now is the file there under its name.
function Part:close()
  self.pieces[#self.pieces + 1] = "\n" .. self.closing .. "\n"
  self:flush(true)
  file.rename(self.path .. ".part", self.path)
end

--- Begins both files in a folder.
---@param dir string
---@param form string      a name of FORMS
---@return table
function M.open(dir, form)
  local f = M.FORMS[form] or error(("pairfile: '%s' is none of instructblip, list, llava, minigpt4"):format(tostring(form)), 2)
  return setmetatable({ form = f, desc = part(dir .. "/desc_data.json", f.by_id and "{" or "[", f.by_id and "}" or "]"),
    pope = part(dir .. "/pope_data.json", "[", "]") }, Out)
end

-- Writes what has been put together of a picture, where descriptions go by id.
local function settle(self)
  local r = self.waiting
  self.waiting = nil
  if r then
    self.desc:add(('"%d": %s'):format(r.image_id, json.encode { chosen = json.array(r.chosen), rejected = json.array(r.rejected) }))
  end
end

--- Adds a description's texts. By id, the records of a picture become one: they have to stand together.
---@param r table     image_id, chosen, rejected
function Out:description(r)
  if not self.form.by_id then
    self.desc:add(json.encode { image_id = ("%d"):format(r.image_id), chosen = json.array(r.chosen),
      rejected = json.array(r.rejected) })
    return
  end
  local w = self.waiting
  if w and w.image_id == r.image_id then
    for _, side in ipairs { "chosen", "rejected" } do
      for _, text in ipairs(r[side]) do table.insert(w[side], text) end
    end
  else
    settle(self)
    self.waiting = { image_id = r.image_id, chosen = { unpack(r.chosen) }, rejected = { unpack(r.rejected) } }
  end
end

--- Adds a question.
---@param q table     image_id, question, answer, chosen, rejected, correct
function Out:question(q)
  local f = self.form
  local r = { image_id = ("%d"):format(q.image_id), question = q.question, chosen = q.chosen, [f.rejected] = q.rejected }
  if f.answer then r.answer = q.answer end
  if f.correct then r.correct = q.correct == true end
  self.pope:add(json.encode(r))
end

--- Ends both files.
---@return table counts      records of each: desc, pope
function Out:close()
  settle(self)
  self.desc:close()
  self.pope:close()
  return { desc = self.desc.count, pope = self.pope.count }
end

--- Writes both files at once.
---@param dir string
---@param form string
---@param descriptions table[]
---@param questions table[]
---@return table
function M.write(dir, form, descriptions, questions)
  local out = M.open(dir, form)
  for _, r in ipairs(descriptions) do out:description(r) end
  for _, q in ipairs(questions) do out:question(q) end
  return out:close()
end

return M
