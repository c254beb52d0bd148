-- limit: sets a limit, or removes it. Those who wait for it are looked at anew by serve.
--
-- uses limits.lua
-- KEYS  1…  limits, one per partition
-- ARGV  1  the limit's name    2  what it says, or "" to remove it    3  how many keys have bounds of their own
--       then for each of those: digest, numbers    then per partition: what all names begin with
--
-- Returns 1 if there was such a limit.

local limits = limits_part()
local now = limits.clock()
local name, count = ARGV[1], tonumber(ARGV[3])
local existed = 0
for i, rules in ipairs(KEYS) do
  existed = math.max(existed, redis.call('HEXISTS', rules, name))
  for _, field in ipairs(redis.call('HKEYS', rules)) do
    if string.match(field, '^[^:]*') == name then
      redis.call('HDEL', rules, field)
    end
  end
  if ARGV[2] ~= '' then
    redis.call('HSET', rules, name, ARGV[2])
    for each = 1, count do
      redis.call('HSET', rules, name .. ':' .. ARGV[2 * each + 2], ARGV[2 * each + 3])
    end
  end
  local base = ARGV[2 * count + 3 + i]
  for _, place in ipairs(redis.call('SMEMBERS', base .. 'limit:places')) do
    if string.match(place, '^[^:]*') == name then
      limits.wake(base, place, now)
    end
  end
end
return existed
