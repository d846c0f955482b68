-- Builds files of torch.save by hand, so that they can lie: pickles from their instructions, stored zips.
local M = {}

local function little(n, bytes)
  local out = {}
  for i = 1, bytes do
    out[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(out)
end
M.little = little

--- Instructions of pickle.
function M.text(s) return "X" .. little(#s, 4) .. s end
function M.global(module, name) return "c" .. module .. "\n" .. name .. "\n" end
function M.int(n)
  if n >= 0 and n < 256 then return "K" .. string.char(n) end
  local digits = n % 1 == 0 and ("%.0f"):format(n) or tostring(n)
  return "I" .. digits .. "\n"
end
function M.tuple(...) return "(" .. table.concat({ ... }) .. "t" end
function M.dict(...) return "}(" .. table.concat({ ... }) .. "u" end
function M.call(f, ...) return f .. M.tuple(...) .. "R" end
function M.pickle(body) return "\128\2" .. body .. "." end

local function numbers(list)
  local out = {}
  for i, n in ipairs(list) do out[i] = type(n) == "string" and n or M.int(n) end
  return M.tuple(unpack(out))
end

--- The call that makes a tensor: { key =, elements =, offset =, size =, stride =, storage = class }.
function M.tensor(t)
  local persistent = M.tuple(M.text("storage"), M.global("torch", t.storage or "FloatStorage"),
    M.text(t.key or "0"), M.text("cpu"), t.elements and M.int(t.elements) or M.int(6)) .. "Q"
  return M.call(M.global("torch._utils", "_rebuild_tensor_v2"), persistent, M.int(t.offset or 0),
    numbers(t.size or { 2, 3 }), numbers(t.stride or { 3, 1 }), "\137", M.dict())
end

local MANY = "\255\255\255\255"

-- The record of an entry; large: its sizes and place stand in the extra field of zip64.
local function record(e, at, large)
  local bytes = little(e.size or #e[2], large and 8 or 4)
  local place = little(e.at or at, large and 8 or 4)
  local extra = large and "\1\0" .. little(24, 2) .. bytes .. bytes .. place or ""
  if large then bytes, place = MANY, MANY end
  return "PK\1\2" .. little(0, 4) .. little(e.flags or 0, 2) .. little(e.method or 0, 2) .. little(0, 4)
    .. little(e.crc or 0, 4) .. bytes .. bytes .. little(#e[1], 2) .. little(#extra, 2) .. little(0, 10) .. place
    .. e[1] .. extra
end

--- What stands in front of an entry's bytes; extra: a field that moves them to where they are wanted.
function M.zip_header(e, extra)
  local inner, size = e.local_name or e[1], little(e.local_size or #e[2], 4)
  return "PK\3\4" .. little(0, 2) .. little(e.flags or 0, 2) .. little(e.method or 0, 2) .. little(0, 8)
    .. size .. size .. little(#inner, 2) .. little(#(extra or ""), 2) .. inner .. (extra or "")
end

--- The end of a zip whose entries begin at the places of `at`: their directory, and where it is.
function M.zip_end(entries, at, finish, options)
  local directory, end64 = {}, ""
  for i, e in ipairs(entries) do directory[i] = record(e, at[i], options.large) end
  local central = table.concat(directory)
  local count, from = options.count or #entries, options.directory or finish
  if options.large then
    end64 = "PK\6\6" .. little(44, 8) .. little(45, 4) .. little(0, 8) .. little(count, 8) .. little(count, 8)
      .. little(#central, 8) .. little(from, 8) .. "PK\6\7" .. little(0, 4) .. little(finish + #central, 8)
      .. little(1, 4)
  end
  return central .. end64 .. "PK\5\6" .. little(0, 4)
    .. (options.large and "\255\255\255\255" .. MANY .. MANY
      or little(count, 2) .. little(count, 2) .. little(#central, 4) .. little(from, 4)) .. little(0, 2)
end

--- A zip of { name, bytes, local_name =, local_size =, method =, flags =, size =, at = } without sums;
--- options: { count =, directory =, large = true for zip64 }.
function M.zip(entries, options)
  local body, at, finish = {}, {}, 0
  for i, e in ipairs(entries) do
    at[i], body[i] = finish, M.zip_header(e) .. e[2]
    finish = finish + #body[i]
  end
  return table.concat(body) .. M.zip_end(entries, at, finish, options or {})
end

--- A whole file: the pickle's body, and storage 0 (24 bytes: the numbers 0 to 5).
function M.file(body, more)
  local entries = {
    { "archive/data.pkl", M.pickle(body) },
    { "archive/byteorder", "little" },
    { "archive/data/0", ("\0\0\0\0\0\0\128\63\0\0\0\64\0\0\64\64\0\0\128\64\0\0\160\64") },
  }
  for _, e in ipairs(more or {}) do entries[#entries + 1] = e end
  return M.zip(entries)
end

return M
