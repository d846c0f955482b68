-- Checkpoints: tensors by name, from a file of safetensors or torch.save, or a folder that holds some.
--   local c = lucid.checkpoint("llava-1.5-7b-hf")
--   for _, name in ipairs(c:names()) do print(name, c:dtype(name), table.concat(c:shape(name), "x")) end
local ffi = require "ffi"
local native = require "lucid.native"

local C = native.C

local M = {}

local Checkpoint = {}
Checkpoint.__index = Checkpoint

--- Opens a file or a folder.
---@param path string
---@return table
function M.open(path)
  local handle = ffi.gc(native.check(C.lc_checkpoint_open(path)), C.lc_checkpoint_close)
  local self = setmetatable({ handle = handle, path = path, list = {}, at = {} }, Checkpoint)
  for i = 1, C.lc_checkpoint_count(handle) do
    local name = ffi.string(C.lc_checkpoint_name(handle, i - 1))
    self.list[i] = name
    self.at[name] = i - 1
  end
  return self
end

local function place(self, name)
  return self.at[name] or error(("%s: there is no tensor '%s'"):format(self.path, tostring(name)), 3)
end

--- The tensors' names, sorted.
---@return string[]
function Checkpoint:names()
  local names = {}
  for i, name in ipairs(self.list) do names[i] = name end
  return names
end

--- Whether there is a tensor of this name.
---@param name string
---@return boolean
function Checkpoint:has(name) return self.at[name] ~= nil end

--- The file's own word for a tensor's dtype: "BF16", "I64" ...
---@param name string
---@return string
function Checkpoint:dtype(name) return ffi.string(C.lc_checkpoint_dtype(self.handle, place(self, name))) end

--- A tensor's sizes; of one with more than five dims nothing but their number is known: nil, number.
---@param name string
---@return integer[]|nil
function Checkpoint:shape(name)
  local sizes = ffi.new("int64_t[5]")
  local n, shape = C.lc_checkpoint_shape(self.handle, place(self, name), sizes), {}
  if n > 5 then return nil, n end
  for i = 1, n do shape[i] = tonumber(sizes[i - 1]) end
  return shape
end

--- The bytes of a tensor's elements.
---@param name string
---@return integer
function Checkpoint:bytes(name) return tonumber(C.lc_checkpoint_bytes(self.handle, place(self, name))) end

--- The file that holds a tensor: its path, and "safetensors", "PyTorch zip" or "PyTorch before 1.6".
---@param name string
---@return string, string
function Checkpoint:file(name)
  local i = place(self, name)
  return ffi.string(C.lc_checkpoint_file(self.handle, i)), ffi.string(C.lc_checkpoint_format(self.handle, i))
end

--- How many of a tensor's numbers are NaN or infinite; its bytes are read.
---@param name string
---@return integer
function Checkpoint:nonfinite(name)
  return native.check(tonumber(C.lc_checkpoint_nonfinite(self.handle, place(self, name))))
end

--- Reads every byte: raises when a sum of a file is wrong, and returns the tensors that hold what is not
--- finite.
---@param read fun(done: integer)|nil    called after each tensor
---@return table<string, integer>    name -> how many numbers
function Checkpoint:check(read)
  native.check(C.lc_checkpoint_check(self.handle))
  local found = {}
  for i, name in ipairs(self.list) do
    local n = self:nonfinite(name)
    if n > 0 then found[name] = n end
    if read then read(i) end
  end
  return found
end

--- A tensor: mapped, not copied, where the file lets it be.
---@param name string
---@return lucid.Tensor
function Checkpoint:tensor(name)
  place(self, name)
  return native.adopt(C.lc_checkpoint_tensor(self.handle, name))
end

--- Lets a tensor's pages go until they are read again.
---@param name string
function Checkpoint:forget(name) C.lc_checkpoint_forget(self.handle, place(self, name)) end

--- The text of a metadata key, or nil.
---@param key string
---@return string|nil
function Checkpoint:metadata(key)
  local text = C.lc_checkpoint_metadata(self.handle, key)
  if text ~= nil then return ffi.string(text) end
end

-- ---- writing ----------------------------------------------------------------------------------------

--- Writes a safetensors file by a function that is given the writer, atomically: when it raises there is no new file.
---@param path string
---@param fill fun(writer: ffi.cdata*)
function M.write(path, fill)
  local writer = native.check(C.lc_writer_new(path))
  local ok, reason = pcall(fill, writer)
  if not ok then
    C.lc_writer_drop(writer)
    error(reason, 0)
  end
  native.check(C.lc_writer_finish(writer))
end

--- Writes a safetensors file, atomically.
---@param path string
---@param tensors table<string, lucid.Tensor>
---@param metadata table<string, string>|nil    default: { format = "pt" }
function M.save(path, tensors, metadata)
  M.write(path, function(writer)
    for key, text in pairs(metadata or { format = "pt" }) do native.check(C.lc_writer_metadata(writer, key, text)) end
    for name, t in pairs(tensors) do native.check(C.lc_writer_add(writer, name, t)) end
  end)
end

---@class lucid.Planned
---@field name string
---@field shape integer[]
---@field dtype string                     "f32", "bf16" or "f16"
---@field make fun(): lucid.Tensor         called when its turn comes; the tensor goes when it is written
---@field finished fun()|nil               called then

--- Writes a safetensors file whose tensors are made one after the other, so that one alone is in memory.
---@param path string
---@param list lucid.Planned[]
---@param written fun()|nil     called after each
function M.stream(path, list, written)
  list = { unpack(list) }
  table.sort(list, function(a, b) return a.name < b.name end)
  M.write(path, function(writer)
    native.check(C.lc_writer_metadata(writer, "format", "pt"))
    for _, t in ipairs(list) do
      native.check(C.lc_writer_declare(writer, t.name, #t.shape, ffi.new("int64_t[5]", t.shape), native.dtype(t.dtype)))
    end
    for _, t in ipairs(list) do
      native.scope(function() native.check(C.lc_writer_put(writer, t.name, t.make())) end)
      if t.finished then t.finished() end
      if written then written() end
    end
  end)
end

return setmetatable(M, { __call = function(_, ...) return M.open(...) end })
