-- unpark: brings back what stands in lots, and need not stay there: its type is not paused, and a runner knows it.
-- It goes to the end of its queue, the oldest first. Lots and streams lie in the slot of the names of lots
-- (docs/store.md, One slot).
--
-- uses in_force.lua
-- KEYS  1…  per partition: names of lots, pauses, known types
-- ARGV  1  how many at most    2  since when a type must have been told (microseconds before now)
--       3…  per partition: what all names begin with; the channel that tells of changes ends so: changes
--
-- Pauses that have ended by themselves are removed.
-- Returns how many came back.

local LINES = { high = 'high:', normal = 'queue:', low = 'low:' }

local time = redis.call('TIME')
local now, left = time[1] * 1000000 + time[2], tonumber(ARGV[1])

local function stays(type, pauses, known)
  if redis.call('HEXISTS', pauses, 'type:' .. type) == 1 then
    return true
  end
  local told = redis.call('ZSCORE', known, type)
  return not told or tonumber(told) < now - ARGV[2]
end

-- First the new place, then the old one: while a slot is moved, the stream may have gone before the lot.
local function bring_back(lot, stream, changes)
  local back = redis.call('ZRANGE', lot, 0, math.min(left, 1000) - 1)
  for _, uid in ipairs(back) do
    redis.call('XADD', stream, '*', 'uid', uid)
  end
  if #back > 0 then
    redis.call('ZREM', lot, unpack(back))
    redis.pcall('SPUBLISH', changes, 'queued ' .. back[1]) -- one is enough: who fetches it finds the others
  end
  left = left - #back
  return #back > 0
end

for i = 1, #KEYS, 3 do
  local lots, pauses, known = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  local there = redis.call('HGETALL', pauses)
  for at = 1, #there, 2 do
    if not is_in_force(there[at + 1]) then
      redis.call('HDEL', pauses, there[at])
    end
  end
  for _, name in ipairs(redis.call('SMEMBERS', lots)) do
    local type, queue, priority = string.match(name, '^([^:]*):([^:]*):([^:]*)$')
    if not stays(type, pauses, known) then
      local base = ARGV[2 + (i + 2) / 3]
      while left > 0 and bring_back(base .. 'lot:' .. name, base .. (LINES[priority] or 'queue:') .. queue, base .. 'changes') do
      end
    end
    if redis.call('EXISTS', ARGV[2 + (i + 2) / 3] .. 'lot:' .. name) == 0 then
      redis.call('SREM', lots, name)
    end
  end
end
return ARGV[1] - left
