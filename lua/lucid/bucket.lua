-- A rate limit as a bucket of tokens: a tenth of a minute's may go at once, the rest flows in evenly, and no 60
-- seconds see more than the limit. What is larger than the bucket waits for a full one and leaves it in debt.
--
--   local b = bucket(600, now);   local seconds = b:wait(cost, now);   if seconds == 0 then b:take(cost, now) end
local Bucket = {}
Bucket.__index = Bucket

local function fill(self, now)
  self.level = math.min(self.room, self.level + self.rate * (now - self.at))
  self.at = now
end

--- Seconds until so much may be taken; 0: now.
---@param cost number
---@param now number      seconds of any clock
---@return number
function Bucket:wait(cost, now)
  fill(self, now)
  return math.max(0, (math.min(cost, self.room) - self.level) / self.rate)
end

--- Takes it.
---@param cost integer
---@param now number
function Bucket:take(cost, now)
  fill(self, now)
  self.level = self.level - cost
end

---@param per_minute number     more than 0
---@param now number
return function(per_minute, now)
  local room = math.max(1, per_minute / 10)
  -- One at a time leaves the whole minute to the flow.
  local rate = (room > 1 and per_minute - room or per_minute) / 60
  return setmetatable({ room = room, level = room, rate = rate, at = now }, Bucket)
end
