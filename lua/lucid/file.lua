-- Files and folders. Writing is atomic: a file is whole or it is the old one.
local ffi = require "ffi"
local native = require "lucid.native"

local C, check = native.C, native.check

local M = {}

-- The kinds as lc_file_kind numbers them; sockets and the like count as files that can be opened.
local KINDS = { "file", "folder", "file" }

--- "file", "folder", or nil when nothing is there.
---@param path string
---@return string|nil
function M.kind(path) return KINDS[C.lc_file_kind(path)] end

--- Whether there is a file or folder.
---@param path string
---@return boolean
function M.exists(path) return C.lc_file_kind(path) ~= 0 end

--- When a file was last written: seconds since 1970.
---@param path string
---@return number
function M.mtime(path) return 1e-9 * check(tonumber(C.lc_file_mtime_ns(path))) end

--- The bytes of a file.
---@param path string
---@return integer
function M.size(path) return check(tonumber(C.lc_file_size(path))) end

local data, size = ffi.new("char *[1]"), ffi.new("size_t[1]")

-- Strings of bytes that the library made; they go back to it.
local function take(bytes, n)
  local ok, text = pcall(ffi.string, bytes, n)
  C.lc_free_bytes(bytes)
  return ok and text or error(text, 0)
end

--- A whole file as a string.
---@param path string
---@return string
function M.read(path)
  if C.lc_file_read(path, data, size) ~= 0 then native.fail() end
  return take(data[0], size[0])
end

--- Writes a whole file, atomically.
---@param path string
---@param text string
function M.write(path, text)
  if C.lc_file_write(path, text, #text) ~= 0 then native.fail() end
end

--- Appends to a file; sync: true waits until the disk has it.
---@param path string
---@param text string
---@param sync boolean|nil
function M.append(path, text, sync)
  if C.lc_file_append(path, text, #text, sync and 1 or 0) ~= 0 then native.fail() end
end

--- Cuts a file to its first bytes.
---@param path string
---@param bytes integer
function M.truncate(path, bytes)
  if C.lc_file_truncate(path, bytes) ~= 0 then native.fail(2) end
end

--- Makes a folder, with its parents.
---@param path string
function M.mkdir(path)
  if C.lc_make_folder(path) ~= 0 then native.fail() end
end

--- A new folder for what goes again, which no other user can look into.
---@return string
function M.temporary()
  local path = C.lc_temporary_folder()
  if path == nil then native.fail() end
  return take(path)
end

--- Removes a file or an empty folder.
---@param path string
function M.remove(path)
  if C.lc_remove(path) ~= 0 then native.fail() end
end

--- Moves a file or folder within its file system; what has the name already is replaced, unless it is a
--- folder that is not empty.
---@param from string
---@param to string
function M.rename(from, to)
  if C.lc_rename(from, to) ~= 0 then native.fail() end
end

--- Makes a symbolic link, or turns one that is there to another target.
---@param target string     as the link's own folder sees it
---@param path string
function M.link(target, path)
  if C.lc_symlink(target, path) ~= 0 then native.fail() end
end

--- The bytes that may still be written in a folder.
---@param folder string
---@return integer
function M.free(folder)
  local n = tonumber(C.lc_disk_free(folder))
  if n < 0 then native.fail() end
  return n
end

--- The names in a folder, sorted; nil when it is no folder.
---@param path string
---@return string[]|nil
function M.list(path)
  if C.lc_file_kind(path) ~= 2 then return nil end
  local bytes = C.lc_folder_list(path)
  if bytes == nil then native.fail() end
  local names = {}
  for name in take(bytes, #ffi.string(bytes)):gmatch("[^\n]+") do names[#names + 1] = name end
  return names
end

--- Removes what writes that a crash cut off have left in a folder in which nobody else writes: NAME.tmp.PROCESS.
---@param path string     nothing is done where there is none
function M.tidy(path)
  for _, name in ipairs(M.list(path) or {}) do
    if name:find "%.tmp%.%d+$" then M.remove(path .. "/" .. name) end
  end
end

local WAIT = 5                -- seconds: a process that was killed may need some to end

--- Holds a file against other processes, until M.unlock or this one's end; it is made when there is none.
---@param path string
---@return ffi.cdata* held
function M.lock(path)
  local fd = check(C.lc_file_lock_within(path, WAIT))
  return ffi.gc(ffi.new("int[1]", fd), function(held) C.lc_file_unlock(held[0]) end)
end

--- Lets others have it.
---@param held ffi.cdata*
function M.unlock(held) C.lc_file_unlock(ffi.gc(held, nil)[0]) end

local hashes = {}

--- The SHA-256 of a file, 64 digits; taken again only when the path has another file, or its size or
--- time has changed.
---@param path string
---@return string
function M.hash(path)
  local bytes, time, inode = C.lc_file_size(path), C.lc_file_mtime_ns(path), C.lc_file_inode(path)
  local known = hashes[path]
  if known and known.bytes == bytes and known.time == time and known.inode == inode then
    return known.hash
  end
  local hex = ffi.new("char[65]")
  if C.lc_sha256_file(path, hex) ~= 0 then native.fail() end
  hashes[path] = { bytes = bytes, time = time, inode = inode, hash = ffi.string(hex, 64) }
  return hashes[path].hash
end

return M
