-- A run's log: the JSON lines, and TensorBoard's event files read back by a reader written from the format.
local ffi = require "ffi"
local events = require "lucid.events"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local log = require "lucid.log"
local training = require "tests.support.training"

local function number(ctype, bytes) return ffi.cast("const " .. ctype .. " *", bytes)[0] end

-- CRC-32C bit by bit, from its definition.
local function crc32c(text)
  local c = 0xffffffff
  local function xor(a, b) return bit.bxor(bit.tobit(a), bit.tobit(b)) % 2 ^ 32 end
  for i = 1, #text do
    c = xor(c, text:byte(i))
    for _ = 1, 8 do
      local low = c % 2
      c = (c - low) / 2
      if low == 1 then c = xor(c, 0x82F63B78) end
    end
  end
  return 0xffffffff - c
end

-- TFRecord's mask: rotated right by 15 bits, plus a constant.
local function masked(text)
  local c = crc32c(text)
  local rotated = math.floor(c / 2 ^ 15) + (c % 2 ^ 15) * 2 ^ 17
  return (rotated + 0xa282ead8) % 2 ^ 32
end

-- The payloads of a TFRecord file; both sums of each are checked.
local function records(bytes)
  local list, at = {}, 1
  while at <= #bytes do
    local head = bytes:sub(at, at + 7)
    local n = tonumber(number("uint64_t", head))
    assert.equal(masked(head), tonumber(number("uint32_t", bytes:sub(at + 8, at + 11))))
    local data = bytes:sub(at + 12, at + 11 + n)
    assert.equal(n, #data)
    assert.equal(masked(data), tonumber(number("uint32_t", bytes:sub(at + 12 + n, at + 15 + n))))
    list[#list + 1] = data
    at = at + 16 + n
  end
  return list
end

-- The fields of a protobuf message: { { number, value } }; 32 and 64 bit values as bytes.
local function fields(data)
  local list, at = {}, 1
  local function varint()
    local value, scale = 0, 1
    repeat
      local byte = data:byte(at)
      value, scale, at = value + byte % 128 * scale, scale * 128, at + 1
    until byte < 128
    return value
  end
  while at <= #data do
    local key = varint()
    local kind, value = key % 8
    if kind == 0 then
      value = varint()
    else
      local n = kind == 1 and 8 or kind == 5 and 4 or varint()
      value = data:sub(at, at + n - 1)
      assert.equal(n, #value)
      at = at + n
    end
    list[#list + 1] = { math.floor(key / 8), value }
  end
  return list
end

-- One event: { wall, step, version, values }.
local function event(data)
  local e = { values = {}, step = 0 }
  for _, f in ipairs(fields(data)) do
    if f[1] == 1 then e.wall = number("double", f[2])
    elseif f[1] == 2 then e.step = f[2]
    elseif f[1] == 3 then e.version = f[2]
    elseif f[1] == 5 then
      for _, v in ipairs(fields(f[2])) do
        assert.equal(1, v[1])
        local pair = fields(v[2])
        e.values[pair[1][2]] = number("float", pair[2][2])
      end
    end
  end
  return e
end

describe("event files", function()
  local dir
  before_each(function() dir = folder.folder() end)
  after_each(function() folder.remove(dir) end)

  it("use CRC-32C as published", function()
    -- RFC 3720, B.4, and the usual check value
    assert.equal(0xE3069283, events.crc32c "123456789")
    assert.equal(0x8A9136AA, events.crc32c(("\0"):rep(32)))
    assert.equal(0x62A8AB43, events.crc32c(("\255"):rep(32)))
    assert.equal(0, events.crc32c "")
    for n = 1, 300, 37 do
      local text = ("\1\200z"):rep(n)
      assert.equal(crc32c(text), events.crc32c(text))
    end
  end)

  it("hold the version, then the numbers of each step", function()
    local e = events.open(dir, 1700000000)
    assert.equal(dir .. "/events.out.tfevents.1700000000.lucid", e.path)
    e:add(1, { loss = 0.5, ["rewards/margins"] = -2, note = "text is left out" }, 1700000001)
    e:add(300, { loss = 0.25 }, 1700000002)
    e:add(2 ^ 33, { loss = 1 / 0 }, 1700000003)
    local list = {}
    for i, data in ipairs(records(file.read(e.path))) do list[i] = event(data) end
    assert.equal(4, #list)
    assert.same({ wall = 1700000000, step = 0, version = "brain.Event:2", values = {} }, list[1])
    assert.same({ wall = 1700000001, step = 1, values = { loss = 0.5, ["rewards/margins"] = -2 } }, list[2])
    assert.same({ wall = 1700000002, step = 300, values = { loss = 0.25 } }, list[3])
    assert.equal(2 ^ 33, list[4].step)
    assert.equal(1 / 0, list[4].values.loss)
  end)
end)

describe("a log", function()
  local dir
  before_each(function() dir = folder.folder() end)
  after_each(function() folder.remove(dir) end)

  local function lines() return training.log_of(dir .. "/run") end

  local function logged()
    for _, name in ipairs(file.list(dir .. "/run")) do
      if name:find("^events") then return records(file.read(dir .. "/run/" .. name)) end
    end
  end

  it("has a line a step, and the same numbers as events", function()
    local record = log(dir .. "/run")
    record { step = 1, loss = 0.75, phase = "warm" }
    record { step = 2, loss = 0.5 }
    record:close()
    assert.same({ { step = 1, loss = 0.75, phase = "warm" }, { step = 2, loss = 0.5 } }, lines())
    local list = logged()
    assert.equal(3, #list)
    assert.same({ step = 2, loss = 0.5 }, event(list[3]).values)
  end)

  it("writes null for numbers that JSON cannot hold", function()
    local record = log(dir .. "/run")
    record { step = 1, loss = 0 / 0, low = -1 / 0 }
    local line = lines()[1]
    assert.equal(json.null, line.loss)
    assert.equal(json.null, line.low)
  end)

  it("begins anew when it is opened again", function()
    log(dir .. "/run") { step = 1 }
    log(dir .. "/run") { step = 9 }
    assert.same({ { step = 9 } }, lines())
  end)

  it("goes on behind a step, and what came later is gone", function()
    local record = log(dir .. "/run")
    record { step = 1, loss = 0.75 }
    local at = record:position()
    record { step = 2, loss = 99 }
    file.append(dir .. "/run/log.jsonl", '{"step":3,"lo')            -- cut off while it was written
    local said
    record, said = log.continue(dir .. "/run", 1, at)
    assert.equal(dir .. "/run/log.jsonl: 1 line of a later step is dropped, 1 damaged line is cut off", said)
    record { step = 2, loss = 0.5 }
    assert.same({ { step = 1, loss = 0.75 }, { step = 2, loss = 0.5 } }, lines())
    local list = logged()
    assert.equal(3, #list)
    assert.same({ step = 2, loss = 0.5 }, event(list[3]).values)
  end)

  it("goes on without its events, and with what is left of its lines", function()
    local record = log(dir .. "/run")
    record { step = 1, loss = 0.75 }
    local at = record:position()
    os.remove(dir .. "/run/" .. at.events)
    local again, said = log.continue(dir .. "/run", 1, at)
    assert.is_nil(said)
    again { step = 2, loss = 0.5 }
    assert.equal(2, #lines())
    assert.equal(2, #logged())
    local path = dir .. "/run/log.jsonl"
    file.write(path, file.read(path):sub(1, 25))
    again, said = log.continue(dir .. "/run", 2, at)
    assert.equal(path .. ": 1 damaged line is cut off, 1 of its steps is missing", said)
    again { step = 3 }
    assert.same({ 1, 3 }, { lines()[1].step, lines()[2].step })
    os.remove(path)
    said = select(2, log.continue(dir .. "/run", 2, at))
    assert.equal(path .. ": 2 of its steps are missing", said)
    assert.equal("", file.read(path))
  end)

  it("is there line by line, before it is closed", function()
    local record = log(dir .. "/run")
    for step = 1, 3 do
      record { step = step }
      assert.equal(step, #lines())
    end
  end)
end)
