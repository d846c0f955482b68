-- What is in compiled CUDA kernels, without a disassembler.
--
-- A cubin is an ELF file; a kernel's code is the section .text.NAME, instructions of 16 bytes, whose low 12 bits say
-- which. The same for sm_80, 86, 89 and 90.
local M = {}

--- By mnemonic of NVIDIA's tools.
M.OPCODES = {
  HMMA = 0x23c,   -- tensor cores, 16-bit
  LDSM = 0x83b,   -- ldmatrix
  LDGSTS = 0xfae, -- cp.async
  LDL = 0x983, STL = 0x387, -- spilled registers and local arrays
}

local function number(text, at, bytes)
  local n = 0
  for i = bytes, 1, -1 do n = n * 256 + text:byte(at + i) end
  return n
end

-- "attention_kernel<bf16, 128, 2>" of a mangled name
local function readable(mangled)
  local name, rest = mangled:match("%d(%l[%l_]+_kernel)I(.*)$")
  if not name then return nil end
  local parts = { rest:match("^7lc_bf16") and "bf16" or rest:match("^6lc_f16") and "f16" or "f32" }
  for n in rest:gmatch("Li(%d+)E") do parts[#parts + 1] = n end
  return name .. "<" .. table.concat(parts, ", ") .. ">"
end

--- How often each instruction stands in each kernel of a cubin: {kernel = {HMMA = n, ...}}.
---@param path string
---@return table
function M.opcodes(path)
  local f = assert(io.open(path, "rb"))
  local elf = f:read("*a")
  f:close()
  assert(elf:sub(1, 4) == "\127ELF", path .. " is no ELF file")
  local table_at, size = number(elf, 0x28, 8), number(elf, 0x3a, 2)
  local count, names = number(elf, 0x3c, 2), number(elf, 0x3e, 2)
  local function section(i)
    local at = table_at + i * size
    return number(elf, at, 4), number(elf, at + 0x18, 8), number(elf, at + 0x20, 8)
  end
  local _, names_at = section(names)
  local name_of, kernels = {}, {}
  for name, code in pairs(M.OPCODES) do name_of[code] = name end
  for i = 0, count - 1 do
    local name_at, at, bytes = section(i)
    local name = elf:match("^[^%z]*", names_at + name_at + 1)
    local kernel = name:match("^%.text%.") and readable(name)
    if kernel then
      local counts = {}
      for opcode in pairs(M.OPCODES) do counts[opcode] = 0 end
      for place = at, at + bytes - 16, 16 do
        local known = name_of[number(elf, place, 2) % 4096]
        if known then counts[known] = counts[known] + 1 end
      end
      kernels[kernel] = counts
    end
  end
  return kernels
end

--- The path of nvcc, or nil.
---@return string?
function M.nvcc()
  for _, path in ipairs { "nvcc", "/usr/local/cuda/bin/nvcc" } do
    if os.execute(path .. " --version > /dev/null 2>&1") == 0 then return path end
  end
end

--- Compiles a source of native/cuda for one architecture: the instructions of its kernels, as of M.opcodes.
---@param source string
---@param arch string "80"
---@return table
function M.compile(source, arch)
  local base = os.tmpname()
  local status = os.execute(("%s -std=c++17 -O3 -arch=sm_%s -cubin -Inative native/cuda/%s -o %s"):format(
    M.nvcc(), arch, source, base))
  assert(status == 0, source .. " is not compiled for sm_" .. arch)
  local opcodes = M.opcodes(base)
  os.remove(base)
  return opcodes
end

return M
