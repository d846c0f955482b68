-- Files of data sets and of answers: the input is read as each kind.
local ffi = require "ffi"
local refusal = require "tests.fuzz.refusal"

ffi.cdef [[
  const char *fuzz_file(const void *data, size_t n);
  const char *fuzz_name(const char *name);
]]
local amber, coco, hadpo = require "lucid.data.amber", require "lucid.data.coco", require "lucid.data.hadpo"
local jsonl, pope, shr = require "lucid.data.jsonl", require "lucid.data.pope", require "lucid.data.shr"
local responses = require "lucid.data.responses"

local READERS = {
  hadpo.descriptions, hadpo.questions, amber.annotations, coco.images, coco.categories, pope.read,
  shr.facts, shr.judgements, responses.read,
  function(path) return jsonl.conversations(path, { skip_missing = true }) end,
}

return function(input)
  ffi.C.fuzz_file(input, #input)
  local path, lines = ffi.string(ffi.C.fuzz_name "x.json"), ffi.string(ffi.C.fuzz_name "x.jsonl")
  for _, read in ipairs(READERS) do
    refusal.of(read, path)
    refusal.of(read, lines)
  end
end
