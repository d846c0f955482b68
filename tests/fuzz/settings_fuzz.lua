-- The small files beside a model's weights: the input is all of them at once.
local ffi = require "ffi"
local image = require "lucid.image"
local json = require "lucid.json"
local open = require "lucid.tokenizer"
local refusal = require "tests.fuzz.refusal"

ffi.cdef [[
  const char *fuzz_file(const void *data, size_t n);
  const char *fuzz_name(const char *name);
  const char *fuzz_link(const char *name, const char *file);
  const char *fuzz_folder(void);
]]
local C = ffi.C
local NAMES = { "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json" }

return function(input)
  collectgarbage()            -- a tokenizer is large, and the collector does not see it
  C.fuzz_file(input, #input)
  for _, name in ipairs(NAMES) do C.fuzz_name(name) end
  C.fuzz_link("tokenizer.model", "tests/golden/llava_tiny/classic/tokenizer.model")
  local t = refusal.of(open, ffi.string(C.fuzz_folder()))
  if t then
    local ids = refusal.of(t.encode, t, "a <s>dog</s> <pad> " .. input:sub(1, 64), { special = true, bos = true })
    if ids then refusal.of(t.decode, t, ids) end
  end
  local settings = refusal.of(json.decode, input)
  if json.is_object(settings) then refusal.of(image.processor, settings, "preprocessor_config.json") end
end
