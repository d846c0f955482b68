-- What a file or a folder of weights holds, and what it is: told by the names of its tensors, because
-- names of files say little. Nothing but the files' directories is read, so size is no matter.
--   local found = lucid.inspect "llava-1.5-7b-hf"
--   print(found.kind, found.by, found.tensors)
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local json = require "lucid.json"
local model = require "lucid.model"
local native = require "lucid.native"
local progress = require "lucid.progress"

local M = {}

-- ---- kinds ----------------------------------------------------------------------------------------------

-- Names that tell kinds apart, as they end. Roots ("model.", "module.", "base_model.model.") differ.
local MARKS = {
  lora = "%.lora_[AB]%.[%w_.]*weight$",
  llama = "layers%.%d+%.self_attn%.q_proj%.weight$",
  lm = "layers%.%d+%.mlp%.gate_proj%.weight$",
  hf_projector = "multi_modal_projector%.linear_1%.weight$",
  original_projector = "mm_projector%.[%d.]*weight$",
  clip = "vision_model%.encoder%.layers%.%d+%.self_attn%.q_proj%.weight$",
  hf_eva = "vision_model%.encoder%.layers%.%d+%.self_attn%.qkv%.weight$",
  eva = "blocks%.%d+%.attn%.q_bias$",
  llama_proj = "llama_proj%.weight$",
  llm_proj = "llm_proj%.weight$",
  opt_proj = "opt_proj%.weight$",
  lavis_qformer = "Qformer%.bert%.encoder%.layer%.%d+%.attention%.self%.query%.weight$",
  hf_qformer = "qformer%.encoder%.layer%.%d+%.attention%.attention%.query%.weight$",
  hf_language_projection = "language_projection%.weight$",
  bert = "bert%.encoder%.layer%.%d+%.attention%.self%.query%.weight$",
  moment = "%.m$",
}

-- The first whose marks are all there and whose "without" are not; by: the mark that is shown.
local KINDS = {
  { "PEFT adapter", "lora" },
  { "InstructBLIP, Hugging Face layout", "hf_qformer", "hf_language_projection" },
  { "InstructBLIP, Hugging Face layout (a part)", "hf_qformer" },
  { "InstructBLIP, LAVIS layout (trained parts)", "llm_proj", "lavis_qformer" },
  { "BLIP-2, LAVIS layout", "opt_proj", "lavis_qformer" },
  { "MiniGPT-4 with Q-Former", "llama_proj", "lavis_qformer" },
  { "MiniGPT-4 projection", "llama_proj" },
  { "Q-Former, LAVIS layout", "lavis_qformer" },
  { "LLaVA, Hugging Face layout", "hf_projector" },
  { "LLaVA, original layout", "original_projector", "llama" },
  { "LLaVA projector (non-LoRA trainables)", "original_projector" },
  { "EVA vision tower", "eva" },
  { "InstructBLIP, Hugging Face layout (a part)", "hf_eva" },
  { "Llama", "llama", "lm" },
  { "CLIP vision tower", "clip" },
  { "BERT", "bert" },
  { "AdamW state of a run", "moment" },
}

-- Which marks the names carry: mark -> first name.
local function marks_of(names)
  local found = {}
  for _, name in ipairs(names) do
    for mark, pattern in pairs(MARKS) do
      if not found[mark] and name:find(pattern) then found[mark] = name end
    end
  end
  return found
end

local function kind_of(names)
  local found = marks_of(names)
  for _, kind in ipairs(KINDS) do
    local all = true
    for i = 2, #kind do all = all and found[kind[i]] end
    if all then return kind[1], found[kind[2]] end
  end
  return "weights of no kind that is known here", nil
end

-- ---- what an adapter's configuration adds ------------------------------------------------------------------

-- Keys that PEFT has written since 0.4.
local YOUNG = { "use_rslora", "rank_pattern", "alpha_pattern", "loftq_config", "use_dora", "peft_version" }

local function adapter_facts(folder, facts)
  local path = folder .. "/adapter_config.json"
  if not file.exists(path) then
    facts[#facts + 1] = "there is no adapter_config.json beside it"
    return
  end
  local ok, config = pcall(json.read, path)
  if not ok or type(config) ~= "table" then
    facts[#facts + 1] = ok and path .. ": it is no object" or tostring(config)
    return
  end
  local version = "0.4"
  for _, key in ipairs(YOUNG) do
    if config[key] ~= nil then version = "later than 0.4" end
  end
  if type(config.peft_version) == "string" then version = config.peft_version end
  local targets = config.target_modules
  if type(targets) == "table" then targets = table.concat(targets, " ") end
  facts[#facts + 1] = ("written by PEFT %s: rank %s, alpha %s, targets %s"):format(version,
    tostring(config.r), tostring(config.lora_alpha), tostring(targets))
  if type(config.base_model_name_or_path) == "string" then
    facts[#facts + 1] = "made for " .. config.base_model_name_or_path
  end
end

-- ---- what the shapes say ---------------------------------------------------------------------------------------

-- How many different numbers stand at a place of the names: layers.0, layers.1 ...
local function numbers_of(names, pattern)
  local seen, n = {}, 0
  for _, name in ipairs(names) do
    local i = name:match(pattern)
    if i and not seen[i] then
      seen[i] = true
      n = n + 1
    end
  end
  return n
end

local function shape_facts(c, names, facts)
  local layers = numbers_of(names, "layers%.(%d+)%.self_attn%.q_proj%.lora_A%.")
  if layers > 0 then
    facts[#facts + 1] = ("layers with adapters: %d"):format(layers)
    return
  end
  layers = numbers_of(names, "layers%.(%d+)%.mlp%.gate_proj%.weight$")
  local words
  for _, name in ipairs(names) do
    if name:find("embed_tokens%.weight$") then words = c:shape(name) end
  end
  if layers > 0 then
    facts[#facts + 1] = ("language model: %d layers%s"):format(layers, words
      and #words == 2 and (" of width %d, %d words"):format(words[2], words[1]) or "")
  end
  local blocks = numbers_of(names, "blocks%.(%d+)%.attn%.q_bias$")
  if blocks == 0 then blocks = numbers_of(names, "vision_[%w_.]+%.encoder%.layers%.(%d+)%.") end
  if blocks > 0 then facts[#facts + 1] = ("vision tower: %d blocks"):format(blocks) end
end

-- ---- one checkpoint --------------------------------------------------------------------------------------------

local function base(path) return path:match("[^/]+$") or path end

-- The files, in the order of their first tensors' names, and the dtypes, the largest first.
local function tally(c, names)
  local files, at, dtypes, of = {}, {}, {}, {}
  for _, name in ipairs(names) do
    local path, format = c:file(name)
    local bytes, dtype = c:bytes(name), c:dtype(name)
    if not at[path] then
      at[path] = { path = path, format = format, size = file.size(path), tensors = 0 }
      files[#files + 1] = at[path]
    end
    at[path].tensors = at[path].tensors + 1
    if not of[dtype] then
      of[dtype] = { dtype = dtype, tensors = 0, bytes = 0 }
      dtypes[#dtypes + 1] = of[dtype]
    end
    of[dtype].tensors = of[dtype].tensors + 1
    of[dtype].bytes = of[dtype].bytes + bytes
  end
  table.sort(files, function(a, b) return a.path < b.path end)
  table.sort(dtypes, function(a, b)
    if a.bytes ~= b.bytes then return a.bytes > b.bytes end
    return a.dtype < b.dtype
  end)
  return files, dtypes
end

local function look(path, folder)
  local c = checkpoint(path)
  local names = c:names()
  local kind, by = kind_of(names)
  local files, dtypes = tally(c, names)
  local found = { path = path, kind = kind, by = by, tensors = #names, bytes = 0, files = files, dtypes = dtypes,
    facts = {}, checkpoint = c }
  for _, d in ipairs(dtypes) do found.bytes = found.bytes + d.bytes end
  if kind == "PEFT adapter" then adapter_facts(folder, found.facts) end
  shape_facts(c, names, found.facts)
  return found
end

-- ---- a path -------------------------------------------------------------------------------------------------------

local WEIGHTS = { "%.safetensors$", "%.bin$", "%.pth$", "%.pt$" }

local function is_weights(name)
  for _, pattern in ipairs(WEIGHTS) do
    if name:find(pattern) then return true end
  end
end

-- Without the line of Lua that an error of the core was raised in.
local function reason_of(message) return (tostring(message):gsub("^[^ ]*%.lua:%d+: ", "")) end

---@class lucid.Found
---@field path string
---@field kind string              "LLaVA, original layout" ...
---@field by string|nil            the tensor that it was recognised by
---@field tensors integer
---@field bytes integer            of all tensors
---@field files table[]            { path, format, size, tensors }
---@field dtypes table[]           { dtype, tensors, bytes }
---@field facts string[]
---@field others lucid.Found[]     the folder's other files of weights; of one that cannot be read: { path, reason }
---@field nonfinite table|nil      after M.check: name -> how many numbers are NaN or infinite
---@field checkpoint table

--- Looks at a file, or at a folder: its weights, and every other file of weights in it.
---@param path string
---@return lucid.Found
function M.look(path)
  path = #path > 1 and path:gsub("/+$", "") or path
  local kind = file.kind(path)
  if not kind then error(("inspect: %s: there is no such file or folder"):format(path), 0) end
  if kind ~= "folder" then
    local ok, found = pcall(look, path, path:match("^(.*)/[^/]*$") or ".")
    if not ok then error("inspect: " .. reason_of(found), 0) end
    found.others = {}
    return found
  end
  local ok, found = pcall(look, path, path)
  local first_reason = not ok and reason_of(found)
  local known, others = {}, {}
  for _, f in ipairs(ok and found.files or {}) do known[f.path] = true end
  for _, name in ipairs(file.list(path) or {}) do
    local whole = path .. "/" .. name
    if is_weights(name) and not known[whole] and file.kind(whole) == "file" then
      local read, other = pcall(look, whole, path)
      others[#others + 1] = read and other or { path = whole, reason = reason_of(other) }
    end
  end
  if ok then
    found.others = others
    return found
  end
  -- A run keeps its adapter in a folder of its own; a folder of parts alone (mm_projector.bin) is known by them.
  if not others[1] and file.exists(path .. "/adapter/adapter_config.json") then return M.look(path .. "/adapter") end
  local any
  for _, other in ipairs(others) do any = any or other.kind end
  if not any or not first_reason:find("^" .. path:gsub("%p", "%%%0") .. ": no model%.safetensors") then
    error("inspect: " .. first_reason, 0)
  end
  return { path = path, kind = "files of weights", tensors = 0, bytes = 0, files = {}, dtypes = {}, facts = {},
    others = others }
end

--- Reads every byte of what was found. Raises when a file is damaged, as far as its format tells.
---@param found lucid.Found
---@param show boolean|nil     with a progress line
function M.check(found, show)
  for _, f in ipairs { found, unpack(found.others or {}) } do
    if f.checkpoint then
      local bar = progress { total = math.max(1, f.tensors), label = "check " .. base(f.path), unit = "tensors", quiet = not show }
      local ok, bad = pcall(f.checkpoint.check, f.checkpoint, function(done) bar:step(done) end)
      bar:done()
      if not ok then error("inspect: " .. reason_of(bad), 0) end
      f.nonfinite = bad
    end
  end
end

--- Opens a folder as a model, in the dtype that most of its weights have, so that those are mapped and not
--- read: every name and shape is compared with what config.json asks for. Raises one line that lists what
--- does not fit; returns the model's kind and the number of its parameters.
---@param found lucid.Found
---@param parts { vision: string|nil, bridge: string|nil }|nil    files of a tower and a bridge beside it
---@return string, integer
function M.fit(found, parts)
  local dtype = found.dtypes[1] and found.dtypes[1].dtype:lower()
  if not (dtype and pcall(native.dtype, dtype)) then
    error(("inspect: %s: there is no model to open"):format(found.path), 0)
  end
  parts = parts or {}
  local ok, m = pcall(model.open, found.path, { dtype = dtype, device = "cpu", vision = parts.vision, bridge = parts.bridge })
  if not ok then error("inspect: " .. reason_of(m), 0) end
  return m.kind, #m:all_parameters()
end

-- ---- for people -----------------------------------------------------------------------------------------------------

--- 13.5 GB, 512 kB, 12 bytes.
---@param bytes integer
---@return string
function M.size(bytes)
  for _, unit in ipairs { { 1e9, "GB" }, { 1e6, "MB" }, { 1e3, "kB" } } do
    if bytes >= unit[1] then return ("%.3g %s"):format(bytes / unit[1], unit[2]) end
  end
  return bytes .. " bytes"
end

local function counted(n) return n == 1 and "1 tensor" or n .. " tensors" end

local function add(lines, indent, text, ...)
  lines[#lines + 1] = indent .. (select("#", ...) > 0 and text:format(...) or text)
end

local function describe(found, indent, lines, tensors)
  if found.reason then return add(lines, indent, found.reason) end
  add(lines, indent, found.path)
  add(lines, indent, "  %s%s", found.kind, found.by and (" (by %s)"):format(found.by) or "")
  for _, fact in ipairs(found.facts) do add(lines, indent, "  " .. fact) end
  if found.tensors > 0 then
    local parts = {}
    for _, d in ipairs(found.dtypes) do parts[#parts + 1] = ("%d %s"):format(d.tensors, d.dtype) end
    add(lines, indent, "  %s, %s: %s", counted(found.tensors), M.size(found.bytes), table.concat(parts, ", "))
  end
  for _, f in ipairs(found.files) do
    add(lines, indent, "  %s: %s, %s, %s", base(f.path), f.format, M.size(f.size), counted(f.tensors))
  end
  for _, name in ipairs(found.nonfinite and found.checkpoint:names() or {}) do
    local n = found.nonfinite[name]
    if n then add(lines, indent, "  %s: %d numbers are NaN or infinite", name, n) end
  end
  if found.nonfinite and not next(found.nonfinite) then add(lines, indent, "  read whole: every number is finite") end
  if not tensors or not found.checkpoint then return end
  for _, name in ipairs(found.checkpoint:names()) do
    local shape, dims = found.checkpoint:shape(name)
    add(lines, indent, "    %s %s [%s]", name, found.checkpoint:dtype(name),
      shape and table.concat(shape, ", ") or dims .. " dims")
  end
end

--- What was found, as lines for people.
---@param found lucid.Found
---@param tensors boolean|nil    with every tensor
---@return string
function M.text(found, tensors)
  local lines = {}
  describe(found, "", lines, tensors)
  for i, other in ipairs(found.others) do
    if i == 1 then add(lines, "", "also in it:") end
    describe(other, "  ", lines, tensors)
  end
  return table.concat(lines, "\n")
end

--- The same as a table for JSON.
---@param found lucid.Found
---@param tensors boolean|nil
---@return table
function M.plain(found, tensors)
  local out = { path = found.path, kind = found.kind, by = found.by, reason = found.reason, tensors = found.tensors,
    bytes = found.bytes, files = found.files and json.array(found.files), dtypes = found.dtypes
    and json.array(found.dtypes), facts = found.facts and json.array(found.facts),
    nonfinite = found.nonfinite }
  if tensors and found.checkpoint then
    local list = {}
    for i, name in ipairs(found.checkpoint:names()) do
      local c = found.checkpoint
      local shape, dims = c:shape(name)
      list[i] = { name = name, dtype = c:dtype(name), shape = shape and json.array(shape), dims = dims,
        bytes = c:bytes(name), file = (c:file(name)) }
    end
    out.list = json.array(list)
  end
  if found.others then
    local others = {}
    for i, other in ipairs(found.others) do others[i] = M.plain(other, tensors) end
    out.others = json.array(others)
  end
  return out
end

return setmetatable(M, { __call = function(_, ...) return M.look(...) end })
