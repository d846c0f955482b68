-- What a disk holds while calls of a log (files.c) are made, and what is left of it when the power goes: of a file what was
-- synced, of a folder the names that were there when it was synced.
local M = {}
local Image = {}
Image.__index = Image

local function new_folder() return { now = {}, safe = {} } end
local function new_file() return { file = true, now = "", safe = "" } end

--- An empty folder, whose own names are never lost.
function M.new() return setmetatable({ root = new_folder() }, Image) end

--- Reads a log: { { call =, path =, ... }, ... }.
---@param text string
---@return table[]
function M.read(text)
  local calls, at = {}, 1
  while at <= #text do
    local line, behind = text:match("^([^\n]*)\n()", at)
    local words = {}
    for word in line:gmatch "%S+" do words[#words + 1] = word end
    local call = { call = words[1], path = words[2], target = words[3] }
    if call.call == "write" then
      local n = tonumber(words[4])
      call.offset, call.data = tonumber(words[3]), text:sub(behind, behind + n - 1)
      behind = behind + n
    end
    calls[#calls + 1] = call
    at = behind
  end
  return calls
end

-- The folder that a path is in, and its last name there.
local function place(self, path)
  local folder = self.root
  for name in path:gmatch "([^/]+)/" do folder = folder.now[name] end
  return folder, path:match "[^/]+$"
end

local DO = {
  mkdir = function(folder, name) folder.now[name] = new_folder() end,
  create = function(folder, name) folder.now[name] = new_file() end,
  symlink = function(folder, name, c) folder.now[name] = { link = c.target } end,
  remove = function(folder, name) folder.now[name] = nil end,
  write = function(folder, name, c)
    local text = folder.now[name].now
    folder.now[name].now = text:sub(1, c.offset) .. c.data .. text:sub(c.offset + #c.data + 1)
  end,
  truncate = function(folder, name, c) folder.now[name].now = folder.now[name].now:sub(1, tonumber(c.target)) end,
  rename = function(folder, name, c, self)
    local to, new = place(self, c.target)
    to.now[new], folder.now[name] = folder.now[name], nil
  end,
  fsync = function(folder, name)
    local object = folder.now[name]
    if object.file then
      object.safe = object.now
    else
      object.safe = {}
      for k, v in pairs(object.now) do object.safe[k] = v end
    end
  end,
}

--- Makes a call.
function Image:apply(call)
  local folder, name = place(self, call.path)
  DO[call.call](folder, name, call, self)
end

-- What stays of a file's bytes.
local DATA = {
  data = function(f) return f.safe end,
  names = function(f) return f.safe end,
  torn = function(f)                  -- half of what was not synced
    if f.now == f.safe then return f.now end
    local from = f.now:sub(1, #f.safe) == f.safe and #f.safe or 0
    return f.now:sub(1, from + math.floor((#f.now - from) / 2))
  end,
}

--- What the power leaves: { path = text | { link = target } | true for a folder }.
---@param lost string     "data" that was not synced, "torn": half of it, "names": and the names that were not
function Image:left(lost)
  local list = {}
  local function walk(folder, below)
    local entries = lost == "names" and folder ~= self.root and folder.safe or folder.now
    for name, object in pairs(entries) do
      local path = below .. name
      if object.file then list[path] = DATA[lost](object)
      elseif object.link then list[path] = object
      else
        list[path] = true
        walk(object, path .. "/")
      end
    end
  end
  walk(self.root, "")
  return list
end

return M
