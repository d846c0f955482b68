-- Stages of a longer piece of work: each is skipped when its output is there and was made from the
-- same inputs. A stamp beside the outputs holds the hash of everything the stage depends on; it is
-- written last, so an interrupted stage runs again.
local ffi = require "ffi"
local native = require "lucid.native"
local file = require "lucid.file"
local json = require "lucid.json"

local C = native.C
local M = {}
local Stages = {}
Stages.__index = Stages

local function sha256(text)
  local hex = ffi.new("char[65]")
  native.check(C.lc_sha256(text, #text, hex))
  return ffi.string(hex, 64)
end

--- Stages under a folder. note(name, seconds, skipped) is called after each.
---@param out string
---@param note fun(name: string, seconds: number, skipped: boolean)|nil
---@return table
function M.new(out, note)
  native.check(C.lc_make_folder(out .. "/.stages"))
  return setmetatable({ out = out, note = note or function() end, seconds = {} }, Stages)
end

--- Runs f unless the stage is done. settings: any JSON value; inputs and outputs: files.
---@param name string
---@param settings table
---@param inputs string[]
---@param outputs string[]
---@param f function
---@return boolean ran
function Stages:run(name, settings, inputs, outputs, f)
  local stamp = ("%s/.stages/%s.json"):format(self.out, name)
  local hashes = {}
  for _, path in ipairs(inputs) do hashes[path] = file.hash(path) end
  local key = sha256(json.encode { name = name, settings = settings, inputs = hashes, version = native.version })
  if file.exists(stamp) then
    local done = json.read(stamp)
    local complete = done.key == key
    for _, path in ipairs(outputs) do complete = complete and file.exists(path) end
    if complete then
      self.seconds[name] = done.seconds
      self.note(name, done.seconds, true)
      return false
    end
  end
  local started = C.lc_seconds()
  f()
  local took = C.lc_seconds() - started
  for _, path in ipairs(outputs) do
    if not file.exists(path) then error(("stage %s did not write %s"):format(name, path), 0) end
  end
  json.write(stamp, { key = key, seconds = took })
  self.seconds[name] = took
  self.note(name, took, false)
  return true
end

return M
