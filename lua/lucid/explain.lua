-- What a model is given to read: the ids of a question with their pieces, the picture's rows among them and
-- the template. It is read from a folder's small files; weights are neither needed nor loaded.
--   local e = lucid.explain { model = "llava-1.5-7b-hf", prompt = "Is there a cat?", answer = "Yes." }
--   print(e:text())
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local forest = require "lucid.forest"
local inspect = require "lucid.inspect"
local json = require "lucid.json"
local layout = require "lucid.layout"
local prompt = require "lucid.prompt"
local tokenizer = require "lucid.tokenizer"

local M = {}

---@class lucid.Explanation
---@field kind string|nil          "llava", "minigpt4", "instructblip"
---@field template string          its name or file
---@field chosen string            what named it
---@field ids integer[]            -200 is the picture
---@field rows integer|nil         how many rows the picture takes
---@field spans integer[][]        first and last place of the answer among the ids
---@field qformer integer[]|nil    what InstructBLIP's Q-Former reads, in BERT's ids
local Explanation = {}
Explanation.__index = Explanation

-- ---- the model's small files ------------------------------------------------------------------

local BRIDGES = { ["MiniGPT-4 projection"] = "minigpt4", ["InstructBLIP, LAVIS layout (trained parts)"] = "instructblip",
  ["LLaVA projector (non-LoRA trainables)"] = "llava" }

-- A decoder's folder is whichever model the bridge beside it makes of it.
local function kind_of(config, opt)
  if config.model_type ~= "llama" then return layout.kind(config) end
  return (opt.bridge or "") ~= "" and BRIDGES[inspect(opt.bridge).kind] or nil
end

-- A size of a tensor in files that are named beside the model; nil: none are, or they have no such tensor.
local function size_in(path, name, dim)
  if (path or "") == "" then return nil end
  local c = checkpoint(path)
  for _, full in ipairs(c:names()) do
    local root = full:sub(1, -#name - 1)
    if full:sub(-#name) == name and (root == "" or root:sub(-1) == ".") then return (c:shape(full) or {})[dim] end
  end
end

-- LLaVA's defaults are those of native/models/vit.c; the others' last resort is the published models' number.
local ROWS = {
  llava = function(config, vision)
    local v = layout.vision_config(config, vision)
    local side = math.floor((v.image_size or 336) / (v.patch_size or 14))
    return side * side + (layout.keeps_class(config) and 1 or 0)
  end,
  minigpt4 = function(_, vision)
    local places = size_in(vision, "pos_embed", 2)
    return places and math.floor((places - 1) / 4) or 64
  end,
  instructblip = function(config, _, bridge)
    return config.num_query_tokens or size_in(bridge, "query_tokens", 2) or 32
  end,
}

local function choose_template(config, kind, opt)
  if (opt.template or "") ~= "" then return opt.template, "named by --template" end
  if config.lucid_template then return config.lucid_template, "named in config.json" end
  local name = kind and prompt.default(kind)
  if name then return name, "the usual one of " .. kind end
  error(("%s: what kind of model this is cannot be told from its config.json; name a template (--template) or the "
    .. "bridge's file (--bridge)"):format(opt.model), 0)
end

-- The Q-Former's vocabulary: --bert, or where InstructBLIP's own folders have it.
local function qformer_ids(opt, folder)
  local path = (opt.bert or "") ~= "" and opt.bert or folder .. "/qformer_tokenizer"
  if not file.exists(path) then return nil end
  local bert = tokenizer.bert(path)
  return bert:encode(opt.prompt, { bos = true, eos = true, max = 128, truncate = "left" }), bert
end

-- ---- explanations -------------------------------------------------------------------------------

---@class lucid.ExplainOptions
---@field model string            a model's folder, or a tokenizer's where template is given
---@field prompt string           the question
---@field answer string|nil       an answer; its ids are those that training scores
---@field train boolean|nil       the training form
---@field template string|nil
---@field vision string|nil       the tower's folder, where it is separate: tells how many rows there are
---@field bridge string|nil       of a model in parts: tells which it is
---@field bert string|nil

--- What a model is given to read, from its small files.
---@param opt lucid.ExplainOptions
---@return lucid.Explanation
function M.read(opt)
  local path = opt.model .. "/config.json"
  local config = file.exists(path) and json.read_object(path) or {}
  local kind = kind_of(config, opt)
  local name, chosen = choose_template(config, kind, opt)
  local template, tk = prompt.template(name), tokenizer(opt.model)
  local answer = (opt.answer or "") ~= "" and opt.answer or nil
  local c = template:conversation(tk, { { question = opt.prompt, answer = answer } }, { train = opt.train })
  kind = kind or template.form.model
  local self = { model = opt.model, kind = kind, template = name, chosen = chosen, ids = c.ids, spans = c.spans,
    image = c.image, rows = ROWS[kind] and ROWS[kind](config, layout.vision(opt.model, opt.vision), opt.bridge),
    tokenizer = tk, train = opt.train == true }
  if kind == "instructblip" then self.qformer, self.bert = qformer_ids(opt, opt.model) end
  return setmetatable(self, Explanation)
end

--- The place of the i-th id among the rows that the decoder sees.
---@param i integer
---@return integer
function Explanation:place(i)
  return i > self.image and i - 1 + (self.rows or 1) or i
end

local function line(place, id, piece, note)
  piece = piece:gsub("%c", "?")         -- a vocabulary is a file like another
  return (("%11s %6s  %-24s%s"):format(place, id, piece, note or ""):gsub("%s+$", ""))
end

local function head(self)
  local tk = self.tokenizer
  local rows = self.rows and ("places %d to %d (%d rows)"):format(self.image, self.image + self.rows - 1, self.rows)
    or ("from place %d on; how many rows is not known, places behind it count one"):format(self.image)
  return {
    ("model      %s (%s)"):format(self.model, self.kind or "of no known kind"),
    ("template   %s, %s%s"):format(self.template, self.chosen, self.train and ", in its training form" or ""),
    ("tokenizer  %s, %d ids%s"):format(tk.kind, tk:size(), tk.kind == "wordpiece" and ""
      or tk.legacy and ", legacy spaces" or ", no spaces behind special strings"),
    "picture    " .. rows,
  }
end

--- All of it as text, an id a line.
---@return string
function Explanation:text()
  local out = head(self)
  out[#out + 1] = "\n" .. line("place", "id", "piece")
  local span = self.spans[1]
  for i, id in ipairs(self.ids) do
    if id == forest.IMAGE then
      local last = self.rows and self.rows > 1 and "-" .. i + self.rows - 1 or ""
      out[#out + 1] = line(i .. last, id, "<image>")
    else
      local scored = span and i >= span[1] and i <= span[2]
      out[#out + 1] = line(self:place(i), id, self.tokenizer:piece(id), scored and "scored")
    end
  end
  if not span then out[#out + 1] = ("%11s         the answer begins here"):format(self:place(#self.ids + 1)) end
  if self.qformer then
    out[#out + 1] = "\nthe Q-Former reads:"
    for i, id in ipairs(self.qformer) do out[#out + 1] = line(i, id, self.bert:piece(id)) end
  elseif self.kind == "instructblip" then
    out[#out + 1] = "\nthe Q-Former reads the question, too; --bert names its vocabulary"
  end
  return table.concat(out, "\n")
end

--- The same as a table for JSON.
---@return table
function Explanation:table()
  local pieces = {}
  for i, id in ipairs(self.ids) do pieces[i] = id == forest.IMAGE and "<image>" or self.tokenizer:piece(id) end
  return { model = self.model, kind = self.kind, template = self.template, ids = self.ids, pieces = pieces,
    image = { at = self.image, rows = self.rows }, scored = self.spans[1], qformer = self.qformer }
end

return setmetatable(M, { __call = function(_, ...) return M.read(...) end })
