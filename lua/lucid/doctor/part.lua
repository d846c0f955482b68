-- One thing that lucid doctor has found: where it lies, what of it is there, what is missing, what is wrong.
local catalogue = require "lucid.doctor.catalogue"
local file = require "lucid.file"

---@class lucid.Part
---@field kind string                                   a name of catalogue.PARTS
---@field path string
---@field there string[]                                what is as it should be
---@field missing { file: string, from: string }[]
---@field wrong { file: string, reason: string }[]
---@field notes string[]                                what is worth knowing and no fault
---@field genome lucid.Part|nil                         of a data set: the Visual Genome whose pictures it is about
---@field hashes table<string, string>                  SHA-256 by path, where they were asked for
local Part = {}
Part.__index = Part

local M = {}

--- A part of which nothing is known yet.
---@param kind string
---@param path string
---@return lucid.Part
function M.new(kind, path)
  return setmetatable({ kind = kind, path = path, there = {}, missing = {}, wrong = {}, notes = {}, hashes = {} }, Part)
end

--- What the catalogue says of it.
---@return lucid.DoctorPart
function Part:entry() return catalogue.PARTS[self.kind] end

--- Where one of its files is.
---@param name string
---@return string
function Part:at(name) return self.path .. "/" .. name end

--- Notes that something is as it should be.
---@param form string
---@param ... any
function Part:has(form, ...) self.there[#self.there + 1] = form:format(...) end

--- Notes that something is missing.
---@param name string
---@param from string|nil     default: where the whole part comes from
function Part:lacks(name, from)
  self.missing[#self.missing + 1] = { file = name, from = from or self:entry().from }
end

--- Notes that something is there and of no use.
---@param name string
---@param reason any          an error, or its text; what it says twice is taken out
function Part:spoils(name, reason)
  local text = tostring(reason):gsub("^[^ ]*%.lua:%d+: ", "")
  for _, root in ipairs { self.path .. "/", name .. ": " } do
    if text:sub(1, #root) == root then text = text:sub(#root + 1) end
  end
  self.wrong[#self.wrong + 1] = { file = name, reason = text }
end

--- Notes what is worth knowing and no fault.
---@param form string
---@param ... any
function Part:note(form, ...) self.notes[#self.notes + 1] = form:format(...) end

--- Runs a check of one file: what it raises is what is wrong with it.
---@param name string
---@param check fun(path: string): any
---@return any|nil result        of the check; nil: it failed, or the file is not there
function Part:try(name, check)
  local path = self:at(name)
  if file.kind(path) ~= "file" then return nil end
  local ok, result = pcall(check, path)
  if ok then return result == nil or result end
  self:spoils(name, result)
end

--- Whether everything is there and right.
---@return boolean
function Part:is_whole() return #self.missing == 0 and #self.wrong == 0 end

return M
