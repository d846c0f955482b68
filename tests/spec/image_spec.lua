-- Pictures: what Pillow and transformers recorded (tests/golden/image), damage, limits, real files.
local ffi = require "ffi"
local lucid = require "lucid"
local native = require "lucid.native"
local file = require "lucid.file"
local json = require "lucid.json"
local support = require "tests.support.folder"

local C = native.C
local HERE = "tests/golden/image/"
local SHARED = "../shared/data/images/"
local golden = json.read(HERE .. "golden.json")
local image = lucid.image

local function sha256(t)
  local bytes = t:count() * tonumber(C.lc_dtype_bytes(C.lc_tensor_dtype(t)))
  local data, hex = ffi.new("uint8_t[?]", math.max(bytes, 1)), ffi.new("char[65]")
  native.check(C.lc_tensor_read(t, data, bytes))
  native.check(C.lc_sha256(data, bytes, hex))
  return ffi.string(hex)
end

-- A picture whose values are f(row, column, channel), all from 0.
local function picture(height, width, f)
  local data, at = ffi.new("uint8_t[?]", height * width * 3), 0
  for y = 0, height - 1 do
    for x = 0, width - 1 do
      for c = 0, 2 do
        data[at] = f(y, x, c)
        at = at + 1
      end
    end
  end
  local t = lucid.empty({ height, width, 3 }, { dtype = "u8" })
  native.check(C.lc_tensor_write(t, data, at))
  return t
end

-- As make.py's pattern.
local function pattern(height, width)
  return picture(height, width, function(y, x, c)
    return math.floor((3 * x * x + 5 * y * y + 7 * x * y + 164 * c) / 4) % 256
  end)
end

local function values(t)
  local list = {}
  for _, row in ipairs(t:tolist()) do
    for _, place in ipairs(row) do list[#list + 1] = table.concat(place, " ") end
  end
  return table.concat(list, ", ")
end

-- The message of a failure; it must be one line that begins with a name.
local function refusal(name, f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok, name .. " was accepted")
  message = tostring(message):gsub("^[^:]*:%d+: ", "")
  assert.is_nil(message:find("\n"), message)
  assert.is_truthy(message:find(name, 1, true), message)
  return message
end

-- Every file below a folder.
local function files_below(folder, list)
  list = list or {}
  for _, name in ipairs(file.list(folder) or {}) do
    local path = folder .. "/" .. name
    if file.kind(path) == "folder" then files_below(path, list) else list[#list + 1] = path end
  end
  return list
end

describe("reading", function()
  for _, g in ipairs(golden.decoded) do
    it("gives Pillow's pixels: " .. g.file, function()
      local t = image.load(HERE .. "files/" .. g.file)
      assert.same({ g.height, g.width, 3 }, t:shape())
      assert.equal("u8", t:dtype())
      assert.equal(g.sha256, sha256(t))
    end)
  end

  for _, name in ipairs(golden.refused) do
    it("refuses in one line: " .. name, function()
      refusal(HERE .. "files/" .. name, image.load, HERE .. "files/" .. name)
    end)
  end

  it("says what a file is instead of a picture", function()
    local function why(name) return refusal(name, image.load, HERE .. "files/" .. name) end
    assert.matches("web page", why "page.jpg")
    assert.matches("LFS", why "pointer.png")
    assert.matches("empty", why "empty.jpg")
    assert.matches("Premature end", why "cut.jpg")
    assert.matches("60000 x 60000", why "huge.png")
    assert.matches("30000 x 30000", why "huge.bmp")
    refusal("nothing.png", image.load, HERE .. "files/nothing.png")
  end)

  -- Found by tests/fuzz: stb_image read beyond gray samples of 16 bits, and took any number for a size. Values are Pillow's.
  it("reads PNM pictures as Pillow does", function()
    local function pixels(bytes)
      local t, list = image.decode(bytes, "x.ppm"), {}
      local data = ffi.new("uint8_t[?]", t:count())
      native.check(C.lc_tensor_read(t, data, t:count()))
      for i = 1, t:count() do list[i] = data[i - 1] end
      return list
    end
    assert.same({ 97, 98, 99 }, pixels "P6 #12345678901\n1 1 255\nabc")
    assert.same({ 128, 255, 3 }, pixels "P6\n1\r\n1\n#c\r100 \50\100\1")
    assert.same({ 7, 7, 7, 255, 255, 255 }, pixels "P5 2 1 65535\n\0\7\1\44")
    assert.same({ 131, 131, 131, 255, 255, 255 }, pixels "P5 2 1 1000\n\0\2\0\5")
    for bytes, why in pairs {
      ["P6 4294967297 1 255\nabcabc"] = "its head holds no size", ["P5 1 18446744073709551617 255\nab"] = "its head holds no size",
      ["P5 1 1 65536\nab"] = "its head holds no size", ["P5 1 1 0\nab"] = "its head holds no size", ["P5"] = "its head holds no size",
      ["P59 1 1 255\nab"] = "its head holds no size", ["P5 1 1 255"] = "its head holds no size",
      ["P6 1 1 255\nab"] = "it ends within its pixels", ["P5 1 1 256\na"] = "it ends within its pixels", ["P6 0 1 255\na"] = "0 x 1",
      ["P5 9999 1 255\na"] = "9999 x 1",
    } do
      local ok, message = pcall(image.decode, bytes, "x.ppm")
      assert.is_false(ok, bytes)
      assert.matches(why, message, 1, true)
      assert.matches("x.ppm", message, 1, true)
    end
  end)

  -- stb_image takes zeros, or what its memory held, for what is missing.
  it("refuses a picture that ends within its pixels", function()
    local bmp, tga, gif = file.read(HERE .. "files/rgb.bmp"), file.read(HERE .. "files/rgb.tga"), file.read(HERE .. "files/palette.gif")
    local psd = "8BPS\0\1" .. ("\0"):rep(6) .. "\0\3\0\0\0\2\0\0\0\2\0\8\0\3" .. ("\0"):rep(12) .. "\0\0" .. ("x"):rep(12)
    for name, bytes in pairs { ["x.bmp"] = bmp, ["x.tga"] = tga, ["x.gif"] = gif, ["x.psd"] = psd } do
      image.decode(bytes, name)
      for _, kept in ipairs { math.floor(#bytes * 0.8), #bytes - (name == "x.tga" and 60 or 6) } do
        local ok, message = pcall(image.decode, bytes:sub(1, kept), name)
        assert.is_false(ok, name)
        assert.equal(name .. ": the picture is damaged: it ends within its pixels", message)
      end
    end
  end)

  it("reads a BMP that begins with its top row", function()
    local bmp = file.read(HERE .. "files/rgb.bmp")
    local function number(at) return bmp:byte(at) + 256 * bmp:byte(at + 1) end
    local first, width, height = number(11), number(19), number(23)
    local row, rows = math.ceil(width * 3 / 4) * 4, {}
    for i = 1, height do rows[i] = bmp:sub(first + (height - i) * row + 1, first + (height - i + 1) * row) end
    local turned = bmp:sub(1, 22) .. string.char(256 - height) .. "\255\255\255" .. bmp:sub(27, first) .. table.concat(rows)
    assert.equal(sha256(image.decode(bmp, "x.bmp")), sha256(image.decode(turned, "x.bmp")))
  end)

  it("decodes bytes, whatever a prefix of them is", function()
    for _, name in ipairs { "baseline.jpg", "progressive.jpg", "interlaced.png", "palette.gif", "rgb.bmp" } do
      local bytes = file.read(HERE .. "files/" .. name)
      assert.same({ 13, 17, 3 }, image.decode(bytes, name):shape())
      for n = 0, #bytes - 1, 7 do
        local ok, t = pcall(image.decode, bytes:sub(1, n), name)
        if ok then assert.same({ 13, 17, 3 }, t:shape()) end
      end
    end
  end)

  it("survives changed bytes", function()
    local read = 0
    for case = 1, 3000 do
      local name = golden.decoded[case % #golden.decoded + 1].file
      local bytes = file.read(HERE .. "files/" .. name)
      for change = 1, 1 + case % 4 do
        local at = 1 + math.floor(C.lc_uniform(21, case, 2 * change) * #bytes)
        local byte = string.char(math.floor(C.lc_uniform(21, case, 2 * change + 1) * 256))
        bytes = bytes:sub(1, at - 1) .. byte .. bytes:sub(at + 1)
      end
      lucid.scope(function()
        local ok, message = pcall(image.decode, bytes, name)
        read = read + (ok and 1 or 0)
        assert.is_truthy(ok or (message:find(name, 1, true) and not message:find "\n"), message)
      end)
    end
    assert.is_true(read > 100 and read < 2900, read)
  end)

  it("keeps the limits, and changes them", function()
    local path = HERE .. "files/rgb.png"
    local function limited(bytes, side, pixels)
      C.lc_image_limits(bytes, side, pixels)
      local message = refusal(path, image.load, path)
      C.lc_image_limits(32 * 2 ^ 20, 8192, 40000000)
      return message
    end
    assert.matches("limit", limited(100, 0, 0))
    assert.matches("16 a side", limited(0, 16, 0))
    assert.matches("220 in all", limited(0, 0, 220))
    assert.same({ 13, 17, 3 }, image.load(path):shape())
    path = "/dev/zero"                          -- no file, and without end
    assert.matches("behind 1000 bytes, which is the limit", limited(1000, 0, 0))
  end)

  it("gives memory back when it fails, at every allocation", function()
    for _, name in ipairs { "progressive.jpg", "cmyk.jpg", "interlaced.png", "gray16.png", "palette.gif" } do
      local path = HERE .. "files/" .. name
      image.load(path)
      collectgarbage()
      collectgarbage()
      local before, failed = C.lc_memory_used(), 0
      for n = 1, 40 do
        C.lc_memory_fail_at(n)
        local t = C.lc_image_load(path)
        C.lc_memory_fail_at(0)
        C.lc_tensor_adopt(nil)
        if t ~= nil then break end
        assert.equal(C.LC_ENOMEM, C.lc_error_code(), name .. ": " .. ffi.string(C.lc_error()))
        failed = n
      end
      assert.is_true(failed > 2, name)
      assert.equal(tonumber(before), tonumber(C.lc_memory_used()), name)
    end
  end)
end)

describe("resizing", function()
  for _, g in ipairs(golden.resized) do
    it(("gives Pillow's pixels: %dx%d to %dx%d %s"):format(g.from[1], g.from[2], g.to[1], g.to[2], g.filter), function()
      local t = image.resize(pattern(g.from[1], g.from[2]), g.to[1], g.to[2], g.filter)
      assert.same({ g.to[1], g.to[2], 3 }, t:shape())
      assert.equal(g.sha256, sha256(t))
    end)
  end

  it("does not depend on the threads", function()
    local t, n, sums = pattern(300, 211), C.lc_threads_used(), {}
    for i, threads in ipairs { 1, 3 } do
      C.lc_threads(threads)
      local large = image.resize(t, 1203, 1150)            -- small ones are one thread's
      sums[i] = sha256(large) .. sha256(image.resize(large, 1100, 1021))
    end
    C.lc_threads(n)
    assert.equal(sums[1], sums[2])
  end)

  it("keeps one colour, by every filter", function()
    local t = picture(9, 14, function(_, _, c) return 255 - c end)
    for _, filter in ipairs { "nearest", "bilinear", "bicubic" } do
      assert.equal(("255 254 253, "):rep(3) .. "255 254 253", values(image.resize(t, 2, 2, filter)))
    end
  end)

  it("takes views, and refuses what is no picture", function()
    local t = pattern(20, 30)
    local part = t:slice(1, 4, 13):slice(2, 6, 25)
    local whole = picture(10, 20, function(y, x, c)
      return math.floor((3 * (x + 5) ^ 2 + 5 * (y + 3) ^ 2 + 7 * (x + 5) * (y + 3) + 164 * c) / 4) % 256
    end)
    assert.equal(sha256(image.resize(whole, 7, 9)), sha256(image.resize(part, 7, 9)))
    assert.error_matches(function() image.resize(lucid.zeros { 4, 4, 3 }, 2, 2) end, "f32 %[4, 4, 3%] is not a picture")
    assert.error_matches(function() image.resize(t, 0, 2) end, "2 x 0")
    assert.error_matches(function() image.resize(t, 9000, 2) end, "9000")
    assert.error_matches(function() image.resize(t, 4, 4, "lanczos") end, "lanczos")
    for _, bad in ipairs { { false, 4, 4 }, { t, 0, 2 }, { t, 4, 4, "lanczos" } } do
      local ok, message = pcall(function()
        local r = image.resize(unpack(bad))
        return r
      end)
      assert.is_false(ok)
      assert.matches("image_spec.lua:%d+: resize: ", message)       -- the caller's line
    end
  end)
end)

describe("cutting and padding", function()
  local t = picture(2, 3, function(y, x) return 10 * y + x + 1 end)
  local function levels(p)
    local list = {}
    for i, row in ipairs(p:tolist()) do
      local line = {}
      for j, place in ipairs(row) do line[j] = place[1] end
      list[i] = table.concat(line, " ")
    end
    return table.concat(list, " | ")
  end

  it("crops, black outside", function()
    assert.equal("2 3 | 12 13", levels(image.crop(t, 1, 2, 2, 2)))
    assert.equal("0 0 0 | 0 1 2 | 0 11 12", levels(image.crop(t, 0, 0, 3, 3)))
    assert.equal("13 0 | 0 0", levels(image.crop(t, 2, 3, 2, 2)))
    assert.equal("0 | 0", levels(image.crop(t, 100, -100, 2, 1)))
  end)

  it("turns left to right", function()
    assert.equal("3 2 1 | 13 12 11", levels(image.mirror(t)))
    assert.same(t:tolist(), image.mirror(image.mirror(t)):tolist())
  end)

  it("pads to a square", function()
    assert.equal("1 2 3 | 11 12 13 | 9 9 9", levels(image.pad_square(t, { 9, 8, 7 })))
    local tall = picture(4, 1, function(y) return y end)
    assert.equal("9 0 9 9 | 9 1 9 9 | 9 2 9 9 | 9 3 9 9", levels(image.pad_square(tall, { 9, 8, 7 })))
    assert.error_matches(function() image.pad_square(t, { 256, 0, 0 }) end, "256")
  end)

  it("normalises every channel", function()
    local p = image.normalize(picture(1, 2, function(_, x, c) return 100 * x + c end), 0.5, { 1, 2, 3 }, { 2, 4, 8 })
    assert.equal("f32", p:dtype())
    assert.same({ { { -0.5, 24.5 } }, { { -0.375, 12.125 } }, { { -0.25, 6 } } }, p:tolist())
  end)
end)

describe("a processor", function()
  for _, g in ipairs(golden.processed) do
    local size = g.config.size
    local name = type(size) == "table" and (size.shortest_edge or size.height) or size or "default"
    it(("gives transformers' pixels: %dx%d, size %s%s%s"):format(g.from[1], g.from[2], tostring(name),
      g.config.image_aspect_ratio and " padded" or "", g.config.do_resize == false and " not resized" or ""), function()
      local t = image.processor(g.config)(pattern(g.from[1], g.from[2]))
      assert.same(g.shape, t:shape())
      assert.equal(g.sha256, sha256(t))
    end)
  end

  it("names what it does not know", function()
    assert.error_matches(function() image.processor { size = { longest_edge = 3 } } end, "size")
    assert.error_matches(function() image.processor { size = 3, resample = 1 } end, "resample 1")
    assert.error_matches(function() image.processor { size = 3, image_mean = { 1, 2 } } end, "image_mean needs three numbers")
    assert.error_matches(function() image.processor { size = 3, image_std = { 1, 2, "x" } } end, "image_std needs three")
  end)
end)

describe("saving", function()
  local folder
  before_each(function() folder = support.folder() end)
  after_each(function() support.remove(folder) end)

  it("writes PNG and BMP without loss, JPEG nearly", function()
    local t = picture(21, 33, function(y, x, c) return 5 * y + 2 * x + 20 * c end)
    for _, name in ipairs { "a.png", "b.bmp", "C.PNG" } do
      image.save(t, folder .. "/" .. name)
      assert.equal(sha256(t), sha256(image.load(folder .. "/" .. name)))
    end
    image.save(t, folder .. "/d.jpg")
    local far = 0
    local a, b = t:tolist(), image.load(folder .. "/d.jpg"):tolist()
    for y = 1, 21 do
      for x = 1, 33 do
        for c = 1, 3 do far = math.max(far, math.abs(a[y][x][c] - b[y][x][c])) end
      end
    end
    assert.is_true(far > 0 and far < 24, far)
    image.save(t, folder .. "/e.jpeg", { quality = 10 })
    assert.is_true(file.size(folder .. "/e.jpeg") < file.size(folder .. "/d.jpg"))
  end)

  it("leaves what is there when it cannot", function()
    local t, path = pattern(4, 4), folder .. "/a.png"
    image.save(t, path)
    assert.error_matches(function() image.save(t, folder .. "/a.webp") end, "a.webp: .*%.png")
    assert.error_matches(function() image.save(t, path, { quality = 0 }) end, "quality 0")
    assert.error_matches(function() image.save(t, folder .. "/no/a.png") end, "no/a.png")
    local other = pattern(30, 30)
    for n = 1, 3 do
      C.lc_memory_fail_at(n)
      assert.is_false(pcall(image.save, other, path))
    end
    C.lc_memory_fail_at(0)
    assert.equal(sha256(t), sha256(image.load(path)))
    assert.same({ "a.png" }, file.list(folder))
  end)
end)

-- CRC-32 of some of a picture's channels.
local function crc32(t, channels)
  local n, crc = t:count(), -1
  local data = ffi.new("uint8_t[?]", n)
  native.check(C.lc_tensor_read(t, data, n))
  for i = 0, n - 1 do
    if i % 3 < channels then
      crc = bit.bxor(crc, data[i])
      for _ = 1, 8 do
        crc = bit.bxor(bit.rshift(crc, 1), bit.band(0xEDB88320, -bit.band(crc, 1)))
      end
    end
  end
  return bit.tohex(bit.bnot(crc))
end

describe("real files", function()
  local function need(folder)
    if file.kind(SHARED .. folder) then return SHARED .. folder end
    pending("../shared/data/images/" .. folder .. " is not here")
  end

  it("are decoded or refused in one line, one and all", function()
    if not need "photos" then return end
    local read, refused = 0, 0
    for _, path in ipairs(files_below(SHARED:sub(1, -2))) do
      lucid.scope(function()
        local ok, message = pcall(image.load, path)
        if ok then read = read + 1 else refused = refused + 1 end
        if not ok then
          assert.is_nil(tostring(message):find("\n"), message)
          assert.is_truthy(tostring(message):find(path, 1, true), message)
        end
      end)
    end
    assert.is_true(read > 200 and refused > 50, read .. " read, " .. refused .. " refused")
  end)

  -- tests/golden/image/corpus: what Pillow reads of all of them, fuzzers' seeds with the others. Two JPEGs whose data are
  -- damaged it fills up, and here they are refused.
  it("have Pillow's pixels, one and all, and are taken where Pillow takes them", function()
    if not need "png_fuzz_corpus" then return end
    local expected, compared, other = json.read(HERE .. "corpus/corpus.json"), 0, {}
    for _, path in ipairs(files_below(SHARED:sub(1, -2))) do
      local name = path:sub(#SHARED + 1)
      lucid.scope(function()
        local ok, t = pcall(image.load, path)
        local is = ok and ("%dx%d %s"):format(t:size(2), t:size(1), sha256(t):sub(1, 16)) or nil
        if is ~= expected[name] then other[#other + 1] = name .. (is and "" or " is refused") end
        if is then compared = compared + 1 end
      end)
    end
    assert.same({ "jpeg_afl_seeds/id_000223,src_000000,op_flip2,pos_503,+cov.jpg is refused",
      "jpeg_afl_seeds/id_000989,sync_jpeg9,src_001094.jpg is refused" }, other)
    assert.is_true(compared > 230, compared)
  end)

  -- tests/golden/image/real: each picture as each model's processor hands it on, before it is normalised.
  it("have the pixels that Pillow and transformers give each model", function()
    if not need "photos" then return end
    local raw = { do_rescale = false, do_normalize = false }
    local function processor(config)
      for key, value in pairs(raw) do config[key] = value end
      return image.processor(config)
    end
    local blip = { image_processor_type = "BlipImageProcessor", size = { height = 224, width = 224 } }
    local processors = {
      llava = processor { size = 336, crop_size = 336, image_aspect_ratio = "pad" },
      ["llava-hf"] = processor { size = { shortest_edge = 336 }, crop_size = { height = 336, width = 336 } },
      blip = processor(blip),
    }
    local compared, other = 0, {}
    for _, g in ipairs(json.read(HERE .. "real/real.json")) do
      lucid.scope(function()
        local seen = image.load(SHARED .. g.file)
        for name, process in pairs(processors) do
          if sha256(process(seen):to "u8"):sub(1, 16) ~= g[name] then
            other[#other + 1] = ("%s (%s), as %s takes it"):format(g.file, g.is, name)
          end
        end
        compared = compared + 1
      end)
    end
    assert.same({}, other)
    assert.is_true(compared > 200, compared)
  end)

  -- The sums are over the channels that a file has: one of gray pictures, three of colours.
  it("of PngSuite have the expected pixels", function()
    local folder = need "pngsuite_expected"
    if not folder then return end
    local compared = 0
    for name, sum in file.read(folder .. "/results.txt"):gmatch("tests/pngsuite/(%S+): (%d+)") do
      local path = SHARED .. "pngsuite/" .. name
      local bytes = file.exists(path) and file.read(path) or ""
      local depth, colour = bytes:byte(25, 26)
      local gray = colour == 0 and depth < 16       -- of 16 bits, Pillow's cut off at 255
      if not bytes:find("tRNS", 1, true) and (gray or colour == 2 or colour == 3) then
        assert.equal(bit.tohex(tonumber(sum)), crc32(image.load(path), gray and 1 or 3), name)
        compared = compared + 1
      end
    end
    assert.is_true(compared > 80, compared)
  end)

  it("of the JPEG reference set are near their PNGs", function()
    local folder = need "jpeg_reftest"
    if not folder then return end
    local compared = 0
    for _, path in ipairs(files_below(folder)) do
      local png, n = path:gsub("%.jpe?g$", ".png")
      if n == 1 and file.exists(png) then
        local t, other = image.load(path), image.load(png)
        assert.same(other:shape(), t:shape())
        local far = t:to("f32"):sub(other:to("f32")):abs():mean():item()
        assert.is_true(far < 3, path .. " is " .. far .. " off")
        compared = compared + 1
      end
    end
    assert.is_true(compared > 15, compared)
  end)
end)
