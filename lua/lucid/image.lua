-- Pictures: u8 tensors [H, W, 3], and what turns them into a tower's input.
--
--   local t = lucid.image.load("cat.jpg")      lucid.image.resize(t, 224, 224, "bicubic")
--   local process = lucid.image.processor(lucid.json.read("preprocessor_config.json"))
--   local pixels = process(t)                                            -- f32 [3, S, S]
local ffi = require "ffi"
local file = require "lucid.file"
local json = require "lucid.json"
local native = require "lucid.native"
require "lucid.tensor" -- pictures are tensors: their methods

local C = native.C
local M = {}

-- Takes over what a native function makes; out of memory is tried once more after a collection.
local function take(f, ...)
  local t = f(...)
  if t == nil and C.lc_error_code() == C.LC_ENOMEM then
    collectgarbage()
    collectgarbage()
    t = f(...)
  end
  if t == nil then native.fail() end
  return native.adopt(t)
end

local PICTURE = "a picture, u8 [H, W, 3],"

-- ---- pictures that are not trusted -----------------------------------------------------------

-- The options of recipes that read pictures, for groups of lucid.args.
M.LIMITS = { title = "pictures",
  { "max-picture", 32, "MiB of a picture's file", { min = 0.001, max = 4096 } },
  { "max-pixels", 40, "millions of pixels of a picture", { min = 0.001, max = 2000 } },
  { "max-side", 8192, "pixels of a picture's longer side", { whole = true, min = 1, max = 65535 } },
  { "picture-seconds", 10, "seconds that decoding a picture apart may take", { whole = true, min = 1, max = 3600 } },
}
M.OPTIONS = { title = M.LIMITS.title,
  { "sandbox", false, "decode pictures in a process that can open, start and reach nothing" }, unpack(M.LIMITS) }

local seconds = 10              -- that a picture may take
local told = false              -- that limits alone hold: once

--- What pictures may be, and whether a process of its own decodes them: the options of M.OPTIONS, with _ for -.
--- What is not given stays as it is.
---@param opt table
function M.guard(opt)
  seconds = opt.picture_seconds or seconds
  C.lc_image_limits((opt.max_picture or 0) * 2 ^ 20, opt.max_side or 0, (opt.max_pixels or 0) * 1e6)
  if opt.sandbox == nil then return end
  local result = native.check(C.lc_image_sandbox(opt.sandbox and seconds or 0))
  if result > 0 and not told then
    io.stderr:write("lucid: this kernel filters no system calls: the decoder of pictures is held by limits alone\n")
    told = true
  end
end

--- Reads a picture file. Alpha is dropped, EXIF orientation ignored, as in Pillow's convert("RGB").
---@param path string
---@return lucid.Tensor
function M.load(path)
  if type(path) ~= "string" then native.bad_argument("image.load", 1, path, "a path") end
  return take(C.lc_image_load, path)
end

--- The SHA-256 of a picture's file, by which pictures are told apart. The file is read for that and again for its
--- pixels, so a pipe or a device is none: it may have no end, or nothing the second time.
---@param path string
---@return string
function M.hash(path)
  if C.lc_file_kind(path) == 3 then error(("%s: a picture is a regular file, and this is none"):format(path), 0) end
  return file.hash(path)
end

local Reader = {}
Reader.__index = Reader

--- Reads pictures ahead, on a thread of its own: ask for some, then take each.
---@return table
function M.reader()
  return setmetatable({ handle = ffi.gc(native.check(C.lc_reader_new()), C.lc_reader_free) }, Reader)
end

--- Asks for picture files, in the place of what was asked for before.
---@param paths string[]
function Reader:ask(paths)
  C.lc_reader_clear(self.handle)
  for _, path in ipairs(paths) do native.check(C.lc_reader_ask(self.handle, path)) end
end

--- A picture as M.load gives it, or its error.
---@param path string
---@return lucid.Tensor
function Reader:take(path) return take(C.lc_reader_take, self.handle, path) end

--- Decodes a picture from a string of bytes; name is for messages.
---@param bytes string
---@param name string|nil
---@return lucid.Tensor
function M.decode(bytes, name) return take(C.lc_image_decode, bytes, #bytes, name or "picture") end

--- Writes a picture; the suffix says how: .png, .jpg, .bmp. The file is complete or absent.
---@param t any
---@param path string
---@param opt table|nil      { quality = 1 to 100 } of JPEG, default 95
function M.save(t, path, opt)
  if not native.is_tensor(t) then native.bad_argument("save", 1, t, PICTURE) end
  if C.lc_image_save(t, path, opt and opt.quality or 95) < 0 then native.fail() end
end

local encoded, length = ffi.new("char *[1]"), ffi.new("size_t[1]")

--- The bytes of a picture's file, which save would write.
---@param t any
---@param name string        ".png", ".jpg" or ".bmp", or ends so
---@param opt table|nil      as of save
---@return string
function M.encode(t, name, opt)
  if not native.is_tensor(t) then native.bad_argument("encode", 1, t, PICTURE) end
  if C.lc_image_encode(t, name, opt and opt.quality or 95, encoded, length) < 0 then native.fail() end
  local bytes = ffi.string(encoded[0], length[0])
  C.lc_free_bytes(encoded[0])
  return bytes
end

--- Draws a picture in the terminal: in pixels, in coloured half-blocks or in signs, whichever it can. With a path it is
--- written to a file, as save does. [H, W, 3], [3, H, W] and [H, W] of any dtype will do: what is not u8 is spread from its least
--- value, black, to its greatest. So will a picture's file.
---@param t any                a tensor, or a path
---@param path string|nil
function M.show(t, path) require("lucid.image.show")(t, path) end

local FILTERS = { nearest = C.LC_NEAREST, bilinear = C.LC_BILINEAR, bicubic = C.LC_BICUBIC }

--- Another size, by Pillow's resampling to the bit.
---@param t any
---@param height integer
---@param width integer
---@param filter string|nil  "bicubic" (default), "bilinear", "nearest"
---@return lucid.Tensor
function M.resize(t, height, width, filter)
  if not native.is_tensor(t) then native.bad_argument("resize", 1, t, PICTURE) end
  local number = FILTERS[filter or "bicubic"]
  if not number then
    error(("resize: there is no filter '%s'; bicubic, bilinear and nearest are known")
      :format(tostring(filter)), 2)
  end
  return take(C.lc_image_resize, t, height, width, number)
end

--- A rectangle: rows top to top + height - 1, from 1; what lies outside the picture is black.
---@param t any
---@param top integer
---@param left integer
---@param height integer
---@param width integer
---@return lucid.Tensor
function M.crop(t, top, left, height, width)
  if not native.is_tensor(t) then native.bad_argument("crop", 1, t, PICTURE) end
  return take(C.lc_image_crop, t, top - 1, left - 1, height, width)
end

--- The picture in the middle of a square of one colour { red, green, blue }.
---@param t any
---@param colour integer[]
---@return lucid.Tensor
function M.pad_square(t, colour)
  if not native.is_tensor(t) then native.bad_argument("pad_square", 1, t, PICTURE) end
  return take(C.lc_image_pad_square, t, colour[1], colour[2], colour[3])
end

--- The picture turned left to right.
---@param t any
---@return lucid.Tensor
function M.mirror(t)
  if not native.is_tensor(t) then native.bad_argument("mirror", 1, t, PICTURE) end
  return take(C.lc_image_mirror, t)
end

--- (value * scale - mean) / std of every channel, as f32 [3, H, W].
---@param t any
---@param scale number
---@param mean number[]
---@param std number[]
---@return lucid.Tensor
function M.normalize(t, scale, mean, std)
  if not native.is_tensor(t) then native.bad_argument("normalize", 1, t, PICTURE) end
  return take(C.lc_image_normalize, t, scale, ffi.new("float[3]", mean), ffi.new("float[3]", std))
end

-- ---- processors -------------------------------------------------------------------------------

-- Hugging Face's numbers for Pillow's filters.
local RESAMPLE = { [0] = "nearest", [2] = "bilinear", [3] = "bicubic" }

local function is_number(v) return type(v) == "number" end

local function is_box(v) return type(v) == "table" and is_number(v.height) and is_number(v.width) end

local function sizes(size, name)
  if is_number(size) then return { shortest_edge = size } end
  if is_box(size) or type(size) == "table" and is_number(size.shortest_edge) then return size end
  error(("%s: size needs shortest_edge, or height and width"):format(name), 0)
end

local function box(size, name)
  if is_number(size) then return { height = size, width = size } end
  return is_box(size) and size or error(name .. ": crop_size needs height and width", 0)
end

-- The size a picture is brought to: the short side to shortest_edge, the long one in proportion.
local function resized(size, height, width)
  if is_box(size) then return size.height, size.width end
  local edge, short, long = size.shortest_edge, math.min(height, width), math.max(height, width)
  local other = math.floor(edge * long / short)
  if height <= width then return edge, other end
  return other, edge
end

-- What transformers takes where a configuration is silent: CLIP's.
local DEFAULT = {
  size = 224, crop_size = 224, resample = 3, rescale_factor = 1 / 255,
  image_mean = { 0.48145466, 0.4578275, 0.40821073 },
  image_std = { 0.26862954, 0.26130258, 0.27577711 },
}

local function value(config, key)
  local v = config[key]
  if v == nil or v == json.null then return DEFAULT[key] end
  return v
end

-- The three numbers, one a channel, that a key holds.
local function three(config, key, name)
  local v = value(config, key)
  for i = 1, 3 do
    if type(v) ~= "table" or not is_number(v[i]) then error(("%s: %s needs three numbers"):format(name, key), 0) end
  end
  return { v[1], v[2], v[3] }
end

--- What a folder's preprocessor_config.json asks for, as a function from a u8 picture to f32
--- [3, S, S]: pad to a square (do_pad, or image_aspect_ratio = "pad"), resize, centre crop, scale,
--- normalise, as transformers' CLIPImageProcessor and BlipImageProcessor.
---@param config table
---@param name string|nil    the file's name, for messages
---@return fun(t: any): any
function M.processor(config, name)
  name = name or "preprocessor_config.json"
  if type(config) ~= "table" or config == json.null or #config > 0 then
    error(name .. ": a JSON object is expected", 0)
  end
  local mean, std, colour = three(config, "image_mean", name), three(config, "image_std", name), {}
  for i = 1, 3 do colour[i] = math.floor(255 * mean[i]) end
  if config.do_normalize == false then mean, std = { 0, 0, 0 }, { 1, 1, 1 } end
  local scale = config.do_rescale == false and 1 or value(config, "rescale_factor")
  if not is_number(scale) then error(name .. ": rescale_factor is no number", 0) end
  local filter = RESAMPLE[value(config, "resample")]
  if not filter then
    error(("%s: resample %s is not known; 0, 2 and 3 are"):format(name, tostring(config.resample)), 0)
  end
  local resize = config.do_resize ~= false and sizes(value(config, "size"), name) or nil
  -- BLIP's processors bring a picture to height and width and know no crop; CLIP's does unless told.
  local crops = not tostring(config.image_processor_type):find("^Blip") or config.do_center_crop == true
  local crop = crops and config.do_center_crop ~= false and box(value(config, "crop_size"), name) or nil
  local pad = config.do_pad == true or config.image_aspect_ratio == "pad"
  return function(t)
    if pad and t:size(1) ~= t:size(2) then t = M.pad_square(t, colour) end
    if resize then
      local height, width = resized(resize, t:size(1), t:size(2))
      if height ~= t:size(1) or width ~= t:size(2) then t = M.resize(t, height, width, filter) end
    end
    if crop and (crop.height ~= t:size(1) or crop.width ~= t:size(2)) then
      t = M.crop(t, math.floor((t:size(1) - crop.height) / 2) + 1,
        math.floor((t:size(2) - crop.width) / 2) + 1, crop.height, crop.width)
    end
    return M.normalize(t, scale, mean, std)
  end
end

return M
