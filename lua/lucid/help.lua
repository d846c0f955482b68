-- What is written about a thing: help(x) in a session, lucid.help(x) anywhere. The text stands where the thing is made:
-- the comment above a function, the head of a module or a recipe, lucid.h's words on an op.
--
--   lucid.help(lucid.image.resize)     lucid.help "matmul"     lucid.help "llava"     lucid.help(model)
local keys = require "lucid.keys"
local native = require "lucid.native"
local options = require "lucid.options"
local printing = require "lucid.printing"
local recipe = require "lucid.recipe"
local source = require "lucid.help.source"
local tensor = require "lucid.tensor"
local terminal = require "lucid.terminal"

local M = {}

local WELCOME = [[
help(x) shows what is written about x: a function, a module, a tensor, or the name of an op or a recipe.

  lucid.tensor{{1, 2}, {3, 4}}           values in, a tensor out; x:matmul(y), x:to("bf16"), x:backward()
  lucid.model(dir)                       a model; m:generate{ image = "cat.jpg", prompt = "What is this?" }
  lucid.recipe("pope", { limit = 10 })   a recipe, as `lucid pope --limit 10`
  lucid.image.show("cat.jpg")            a picture, or a tensor, in the terminal or as a file
  lucid.plot(values)                     curves in the terminal, or as a file
  lucid.time(f, ...)                     how long a call takes
  lucid.reload(name)                     a module whose file has changed; lucid.reload() all of them
  save("work.lua")                       this session as a script
  traceback()                            where the last error came from

Tab completes names; `lucid.` and Tab lists modules and ops. `lucid help` in a shell lists the recipes.]]

-- ---- functions -----------------------------------------------------------------------------------------

-- The name of an op, for one of its functions.
local function op_of(f)
  for name, op in pairs(native.ops) do
    if op == f then return name end
  end
  for i = 1, math.huge do            -- one that was not bound yet when it was taken
    local key, value = debug.getupvalue(f, i)
    if not key then break end
    if key == "name" and type(value) == "string" and native.ops[value] and debug.getinfo(f, "S").source:find("native%.lua$") then
      return value
    end
  end
end

-- Where a function lies that was made by another one: the module and the name there.
local function place_of(f)
  for module, value in pairs(package.loaded) do
    for _, t in ipairs { value, module == "lucid.tensor" and tensor.methods or nil } do
      if module ~= "_G" and type(t) == "table" then
        for name, field in pairs(t) do
          if field == f and type(name) == "string" and module ~= "lucid" then return module, name end
        end
      end
    end
  end
end

-- What is written about a function: { head, lines }; nil: nothing is.
local function of_function(f)
  local op = op_of(f)
  if op then return source.op(op) end
  local info = debug.getinfo(f, "S")
  local found = info.what ~= "C" and source.at(info.source, info.linedefined)
  if found then return found end
  local module, name = place_of(f)
  return module and (source.named(module, name) or native.ops[name] and source.op(name))
end

-- The first sentence of what is written, whatever lines it stands in.
local function first_sentence(lines)
  local words = {}
  for _, line in ipairs(lines) do
    if line == "" or line:find("^%s") then break end
    words[#words + 1] = line
    local text = table.concat(words, " ")
    local sentence = text:match("^(.-%l%)?%.)%s+%u") or text:match("%.$") and text
    if sentence then return sentence end
  end
  return table.concat(words, " ")
end

-- A line for every function of a table, sorted.
local function list(out, functions)
  local lines, width = {}, 0
  for _, name in ipairs(keys(functions)) do
    local found = of_function(functions[name])
    if found then
      lines[#lines + 1] = { found.head, first_sentence(found.lines) }
      width = math.min(44, math.max(width, #found.head))
    end
  end
  for _, line in ipairs(lines) do
    out[#out + 1] = ("  %s%s  %s"):format(line[1], (" "):rep(width - #line[1]), line[2])
  end
end

local function functions_of(t, functions)
  functions = functions or {}
  for name, value in pairs(t) do
    if type(name) == "string" and type(value) == "function" and not name:find("^_") then functions[name] = value end
  end
  return functions
end

-- ---- tables and tensors ----------------------------------------------------------------------------------

local function module_of(t)
  for name, value in pairs(package.loaded) do
    if value == t and name ~= "_G" then return name end
  end
end

local function of_table(t)
  local out, name = {}, module_of(t)
  local meta = getmetatable(t)
  local methods = meta and type(meta.__index) == "table" and meta.__index or nil
  if name then
    out[1] = name
    for _, line in ipairs(source.head(name) or {}) do out[#out + 1] = "  " .. line end
  end
  local functions = functions_of(t, methods and functions_of(methods))
  if next(functions) then
    if name then out[#out + 1] = "" end
    list(out, functions)
  end
  return out
end

local function of_tensor(t)
  local out = { "a tensor: " .. printing.head(t), "" }
  list(out, functions_of(tensor.methods, functions_of(native.ops)))
  return out
end

-- ---- names ---------------------------------------------------------------------------------------------------

-- The value that "lucid.image.resize" or "image.resize" names.
local function value_of(name)
  local value = require "lucid"
  for part in name:gsub("^lucid%.", ""):gmatch("[^.:]+") do
    if type(value) ~= "table" then return nil end
    value = value[part]
  end
  return value
end

local function known()
  local names = recipe.names()
  for _, name in ipairs(require("lucid").complete(require "lucid")) do names[#names + 1] = name end
  return names
end

local function of_recipe(name, path)
  local out = { "lucid " .. name, "" }
  for _, line in ipairs(source.top(path)) do out[#out + 1] = "  " .. line end
  local args = require "lucid.args"
  local ok, spec = pcall(args.spec_of, path)
  if ok then out[#out + 1] = "\n" .. args.help(spec, name, terminal.width()) end
  return out
end

local function written(found)
  local out = { found.head }
  for _, line in ipairs(found.lines) do out[#out + 1] = "  " .. line end
  out[#out + 1] = "  (" .. found.place .. ")"
  return out
end

local describe

local function of_name(name)
  local path = recipe.find(name)
  if path then
    local out = of_recipe(name, path)
    if package.searchpath("lucid." .. name, package.path) then
      out[#out + 1] = ("\nlucid.%s is a module, too: help(lucid.%s)"):format(name, name)
    end
    return out
  end
  local method = tensor.methods[name:match("^tensor[.:](.+)$") or name]
  local about = method and of_function(method)
  if about and #about.lines > 0 then return written(about) end
  local ok, value = pcall(value_of, name)
  if not ok then value = nil end
  if type(value) == "function" or type(value) == "table" then return describe(value) end
  local found = source.op((name:gsub("^lc_", "")))
  if found then return written(found) end
  local near = options.nearest(name:gsub("^lucid%.", ""), known())
  error(("help: nothing here is called '%s'%s"):format(name, near and "; did you mean " .. near .. "?" or ""), 0)
end

-- ---- all of them ------------------------------------------------------------------------------------------------

function describe(x)
  if type(x) == "string" then return of_name(x) end
  if native.is_tensor(x) then return of_tensor(x) end
  local out
  if type(x) == "function" then
    local found = of_function(x)
    out = found and written(found)
  elseif type(x) == "table" then
    out = of_table(x)
  end
  if not out or #out == 0 then error(("help: nothing is written about this %s"):format(type(x)), 0) end
  return out
end

--- What is written about a function, a module, a thing with methods or a tensor, or about the op, the recipe or the
--- module of a name; without an argument about help itself. As text; lucid.help(x) prints it.
---@param ... any
---@return string
function M.text(...)
  if select("#", ...) == 0 then return WELCOME end
  return table.concat(describe((...)), "\n")
end

return setmetatable(M, { __call = function(_, ...) print(M.text(...)) end })
