-- serve: admits those who wait at places of limits at which it is due.
--
-- uses limits.lua
-- KEYS  1…  when each place is due, one per partition
-- ARGV  1  how many places at most    2…  per partition: what all names begin with
--
-- Returns at how many places it was due.

local now, left = clock(), tonumber(ARGV[1])
for i, wakes in ipairs(KEYS) do
  for _, place in ipairs(redis.call('ZRANGEBYSCORE', wakes, '-inf', now, 'LIMIT', 0, left)) do
    left = left - 1
    serve(ARGV[i + 1], place, now)
  end
end
return ARGV[1] - left
