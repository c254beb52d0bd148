-- known: a runner tells which types it knows.
--
-- KEYS  1…  known types, one per partition
-- ARGV  1…  types

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
for _, known in ipairs(KEYS) do
  for _, type in ipairs(ARGV) do
    redis.call('ZADD', known, now, type)
  end
end
