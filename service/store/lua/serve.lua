-- serve: admits those who wait at places of limits at which it is due.
--
-- uses limits.lua
-- KEYS  1…  when each place is due, one per partition
-- ARGV  1  how many places at most    2…  per partition: what all names begin with
--
-- Returns in how many microseconds it is due again, or -1.

local limits = limits_part()
local now, left, following = limits.clock(), tonumber(ARGV[1]), math.huge
for i, wakes in ipairs(KEYS) do
  for _, place in ipairs(redis.call('ZRANGEBYSCORE', wakes, '-inf', now, 'LIMIT', 0, left)) do
    left = left - 1
    limits.serve(ARGV[i + 1], place, now)
  end
  local first = redis.call('ZRANGE', wakes, 0, 0, 'WITHSCORES')
  following = math.min(following, tonumber(first[2] or following))
end
return following < math.huge and math.max(0, following - now) or -1
