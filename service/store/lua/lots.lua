-- lots: how many tasks stand in lots, and whether each lot's type is known to a runner. Lots lie in the slot of their
-- names (docs/store.md, One slot).
--
-- KEYS  1…  per partition: names of lots, known types
-- ARGV  1…  per partition: what a lot's name is appended to
--
-- Returns the time (microseconds), then a flat list: name of the lot, number of tasks, when the type was last told
-- (microseconds) or ""; and so on.

local time = redis.call('TIME')
local found = { time[1] * 1000000 + time[2] }
for i = 1, #KEYS, 2 do
  for _, name in ipairs(redis.call('SMEMBERS', KEYS[i])) do
    found[#found + 1] = name
    found[#found + 1] = redis.call('ZCARD', ARGV[(i + 1) / 2] .. name)
    found[#found + 1] = redis.call('ZSCORE', KEYS[i + 1], string.match(name, '^[^:]*')) or ''
  end
end
return found
