-- lucid serve under load: 64 streams at a time for a minute, each answer what it is alone, and memory that stays flat.
-- $LUCID_LOAD_SECONDS changes how long.
local lucid = require "lucid"
local adapted = require "tests.support.adapted"
local rng = require "lucid.rng"
local served = require "tests.support.served"
local streams = require "tests.support.streams"

local STREAMS, SECONDS = 64, tonumber(os.getenv "LUCID_LOAD_SECONDS" or 60)
local dir, m, pictures, server

describe("lucid serve under load", function()
  if served.missing() then
    it("answers", function() pending(served.missing()) end)
    return
  end

  setup(function()
    dir, m, pictures = adapted(6)
    -- A budget that holds some of the pictures, so that trunks go and come all the time.
    server = served.adapted(dir, "--dtype f32 --trunk-budget 0.2")
  end)
  teardown(function() server:over(dir) end)

  it("answers every stream of 64 as alone, in memory that stays flat", function()
    local list, draw, open = streams.kinds(m, pictures), rng.new(1), {}
    local function start(i)
      local kind = draw:pick(list)
      local s = open[i] and open[i].socket or server:connect()
      s:request(kind.request)
      open[i] = { socket = s, kind = kind }
    end
    for i = 1, STREAMS do start(i) end
    local from, answered, wrong, early = lucid.time(), 0, 0, nil
    while lucid.time() - from < SECONDS do
      for i = 1, STREAMS do
        local status, _, body = open[i].socket:answer(60)
        if status ~= 200 or streams.text(body) ~= open[i].kind.text then wrong = wrong + 1 end
        answered = answered + 1
        start(i)
      end
      if not early and lucid.time() - from > SECONDS / 3 then early = server:memory() end
    end
    local late = server:memory()
    for i = 1, STREAMS do open[i].socket:close() end
    io.write(("(%d answers in %.0f s, %d wrong; memory %.1f MiB after a third, %.1f MiB at the end) "):format(answered,
      lucid.time() - from, wrong, early / 2 ^ 20, late / 2 ^ 20))
    assert.equal(0, wrong)
    assert.is_true(answered >= 3 * STREAMS)
    assert.is_true(late < early + 8 * 2 ^ 20)
    assert.is_true(server:metric "lucid_trunk_hits_total" > 0 and server:metric "lucid_trunk_misses_total" > 12)
  end)
end)
